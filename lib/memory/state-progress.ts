import { GodwitError } from '../errors.ts';

/** Device state that a guest may have, bytes; a large QEMU guest has a few MiB, a passed-through device 64. */
export const MAX_DEVICE_STATE = 256 << 20;
/** It is cut into parts of this size, bytes; only the last may be shorter (proto/WIRE.md). */
export const STATE_PART = 256 << 10;

/** Int32 words: grows with every change; how it stands; bytes of the whole, once they are known. */
const CHANGES = 0;
const STANDS = 1;
const TOTAL = 2;
const HEAD_BYTES = 16;
/** After the head, for each writer: Int32 bytes that it has written, and at byte 8 a 64-bit digest of them. */
const WRITER_BYTES = 16;

const GROWING = 0;
const ENDED = 1;
const GIVEN_UP = 2;

/**
 * How far a device state has come, in memory that all threads share. Of N writers, writer w writes parts
 * w, w + N, w + 2N, … one after the other.
 */
export class StateProgress {
  readonly shared: SharedArrayBuffer;
  readonly writers: number;
  readonly #words: Int32Array;
  readonly #digests: BigUint64Array;

  /** @param shared of another one */
  constructor(shared: SharedArrayBuffer) {
    this.shared = shared;
    this.writers = (shared.byteLength - HEAD_BYTES) / WRITER_BYTES;
    this.#words = new Int32Array(shared);
    this.#digests = new BigUint64Array(shared);
  }

  static of(writers: number): StateProgress {
    return new StateProgress(new SharedArrayBuffer(HEAD_BYTES + writers * WRITER_BYTES));
  }

  /** Bytes from the first on that are all there. */
  get available(): number {
    let least = MAX_DEVICE_STATE;
    for (let writer = 0; writer < this.writers; writer++) {
      const bytes = this.bytesOf(writer);
      const part = Math.floor(bytes / STATE_PART) * this.writers + writer;
      least = Math.min(least, part * STATE_PART + (bytes % STATE_PART));
    }
    return least;
  }

  /** Of the whole; undefined while it is not known. */
  get total(): number | undefined {
    return Atomics.load(this.#words, STANDS) === ENDED ? this.#words[TOTAL] : undefined;
  }

  /** The whole is there. */
  get complete(): boolean {
    const { total, writers } = this;
    if (total === undefined) return false;
    for (let writer = 0; writer < writers; writer++)
      if (this.bytesOf(writer) !== shareOf(total, writer, writers)) return false;
    return true;
  }

  /** What a writer has written, bytes. */
  bytesOf(writer: number): number {
    return Atomics.load(this.#words, wordOf(writer));
  }

  /** Of what it has written, as it says. */
  digestOf(writer: number): bigint {
    return Atomics.load(this.#digests, wordOf(writer) / 2 + 1);
  }

  /**
   * A writer has written so much in all.
   * @throws GodwitError device-state-invalid: more than a guest may have, or than there is of it
   */
  wrote(writer: number, bytes: number, digest = 0n): void {
    if (bytes > MAX_DEVICE_STATE) throw tooMuch(bytes);
    Atomics.store(this.#digests, wordOf(writer) / 2 + 1, digest);
    Atomics.store(this.#words, wordOf(writer), bytes);
    this.#requireWithin();
    this.#changed();
  }

  /** The whole has so many bytes. @throws GodwitError device-state-invalid: more of it is there */
  endAt(total: number): void {
    if (total > MAX_DEVICE_STATE) throw tooMuch(total);
    if (this.total !== undefined) throw invalid('its end was told before');
    this.#words[TOTAL] = total;
    Atomics.compareExchange(this.#words, STANDS, GROWING, ENDED);
    this.#requireWithin();
    this.#changed();
  }

  /** Nobody wants it any more: who waits for more waits in vain. */
  giveUp(): void {
    Atomics.store(this.#words, STANDS, GIVEN_UP);
    this.#changed();
  }

  /**
   * Resolves when more than so many bytes are available, or the whole.
   * @throws GodwitError cancelled when it was given up
   */
  async more(than: number): Promise<void> {
    for (;;) {
      const changes = Atomics.load(this.#words, CHANGES);
      if (Atomics.load(this.#words, STANDS) === GIVEN_UP)
        throw new GodwitError('cancelled', 'the device state is wanted no more');
      if (this.available > than || this.complete) return;
      const waiting = Atomics.waitAsync(this.#words, CHANGES, changes);
      if (waiting.async) await waiting.value;
    }
  }

  /** Resolves when the whole is there. @throws GodwitError cancelled when it was given up */
  async whole(): Promise<void> {
    while (!this.complete) await this.more(this.available);
  }

  #requireWithin(): void {
    const { total, writers } = this;
    if (total === undefined) return;
    for (let writer = 0; writer < writers; writer++)
      if (this.bytesOf(writer) > shareOf(total, writer, writers))
        throw invalid(`more came than the ${total} bytes that it has`);
  }

  #changed(): void {
    Atomics.add(this.#words, CHANGES, 1);
    Atomics.notify(this.#words, CHANGES);
  }
}

/** Bytes that one of the writers writes of a whole. */
export function shareOf(total: number, writer: number, writers: number): number {
  const parts = Math.floor(total / STATE_PART);
  const whole = Math.floor((parts - writer + writers - 1) / writers);
  return whole * STATE_PART + (parts % writers === writer ? total % STATE_PART : 0);
}

function wordOf(writer: number): number {
  return (HEAD_BYTES + writer * WRITER_BYTES) / 4;
}

function tooMuch(bytes: number): GodwitError {
  return invalid(`${bytes} bytes of it; ${MAX_DEVICE_STATE} are allowed`);
}

function invalid(why: string): GodwitError {
  return new GodwitError('device-state-invalid', `device state: ${why}`);
}
