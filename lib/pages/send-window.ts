import { CHUNK_PAGES, type GuestLayout } from '../memory/guest-layout.ts';

/**
 * Room for one chunk, or one part of device state; its bytes belong to the frame with it until that is
 * acknowledged. Slots come back in the order in which they were sent.
 */
export interface Slot {
  /** Memory of its own, which whoever fills it gives it when it is first needed. */
  bytes?: Buffer;
  sequence: number;
  contentBytes: number;
}

/** A guest does not need more of them than this part of its memory. */
const GUEST_SHARE = 16;
const FEWEST = 2;

/**
 * Slots for each lane of a guest: as many batches as the receiver takes at once, fewer for a small
 * guest, so that many of them can move at the same time: 64 guests of 64 MiB take 4 MiB each.
 */
export function slotsPerLane({ totalPages }: GuestLayout, lanes: number, window: number): number {
  const chunks = totalPages / CHUNK_PAGES;
  return Math.min(window, Math.max(FEWEST, Math.ceil(chunks / GUEST_SHARE / lanes)));
}

/**
 * The fixed window of unacknowledged batches of a lane. Out of slots means back-pressure:
 * whoever reads guest memory waits.
 */
export class SendWindow {
  readonly #free: Slot[] = [];
  readonly #out: Slot[] = [];
  #changed: PromiseWithResolvers<void> | undefined;
  #failure: Error | undefined;
  #acknowledged = 0;

  constructor(size: number) {
    for (let i = 0; i < size; i++) this.#free.push({ sequence: -1, contentBytes: 0 });
  }

  /** A slot to fill; waits for an acknowledgement when all are out. */
  async take(): Promise<Slot> {
    while (this.#free.length === 0) await this.#change();
    this.#check();
    return this.#free.pop()!;
  }

  /** The slot's batch is on its way under this sequence number. */
  sent(slot: Slot, sequence: number, contentBytes: number): void {
    slot.sequence = sequence;
    slot.contentBytes = contentBytes;
    this.#out.push(slot);
  }

  /** Frees everything up to the sequence number; returns the content bytes acknowledged by it. */
  acknowledge(sequence: number): number {
    let bytes = 0;
    while (this.#out.length > 0 && this.#out[0]!.sequence <= sequence) {
      const slot = this.#out.shift()!;
      bytes += slot.contentBytes;
      this.#acknowledged++;
      this.#free.push(slot);
    }
    this.#wake();
    return bytes;
  }

  /** Batches on their way. */
  get outstanding(): number {
    return this.#out.length;
  }

  /** Batches acknowledged so far. */
  get acknowledged(): number {
    return this.#acknowledged;
  }

  /** Resolves when everything sent so far is acknowledged. */
  drained(): Promise<void> {
    return this.settled(this.#acknowledged + this.#out.length);
  }

  /** Resolves when that many batches have been acknowledged since the beginning. */
  async settled(batches: number): Promise<void> {
    while (this.#acknowledged < batches) await this.#change();
    this.#check();
  }

  /** Ends every wait, now and later, with the error. */
  fail(error: Error): void {
    this.#failure ??= error;
    this.#wake();
  }

  #check(): void {
    if (this.#failure) throw this.#failure;
  }

  /** Resolves with the next acknowledgement or failure. */
  async #change(): Promise<void> {
    this.#check();
    this.#changed ??= Promise.withResolvers();
    await this.#changed.promise;
    this.#check();
  }

  #wake(): void {
    this.#changed?.resolve();
    this.#changed = undefined;
  }
}
