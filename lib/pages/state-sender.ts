import { STATE_PART } from '../memory/state-progress.ts';
import { SpoolEnd, type SpoolShare } from '../memory/state-spool.ts';
import type { Link } from '../wire/link.ts';
import type { Counters } from './counters.ts';
import type { PageHash } from './hash.ts';
import type { Pacer } from './pacer.ts';
import { SendWindow } from './send-window.ts';
import { stateDigest } from './state-digest.ts';

/** Parts of a lane on their way at once: 8 MiB, as of pages. Memory that no device state comes to is not touched. */
const WINDOW = 32;

export interface StateSenderOptions {
  readonly spool: SpoolShare;
  readonly lane: number;
  readonly lanes: number;
  readonly hash: PageHash;
  readonly pacer: Pacer;
  readonly counters: Counters;
  /** Resolves when it is the migration's turn in its worker. */
  readonly turn: () => Promise<void>;
}

/** A lane's share of the device state: sent as it grows, in a window of its own beside that of pages. */
export class StateSender {
  readonly #options: StateSenderOptions;
  readonly #spool: SpoolEnd;
  readonly #window = new SendWindow(WINDOW);

  constructor(options: StateSenderOptions) {
    this.#options = options;
    this.#spool = new SpoolEnd(options.spool);
  }

  /**
   * Resolves to the digest of the lane's parts when all are on their way.
   * @param afterPages resolves when no page has to go first
   * @throws GodwitError cancelled when it is wanted no more, and what the lane fails with
   */
  async send(link: Link, afterPages: () => Promise<void>): Promise<bigint> {
    const { lane, lanes, hash, pacer, counters, turn } = this.#options;
    let digest = 0n;
    for (let offset = lane * STATE_PART; ; offset += lanes * STATE_PART) {
      const length = await this.#grown(offset);
      if (length === 0) return digest;
      await afterPages();
      const slot = await this.#window.take();
      await turn();
      slot.bytes ??= Buffer.allocUnsafeSlow(STATE_PART);
      const part = slot.bytes.subarray(0, length);
      this.#spool.read(offset, part);
      const partHash = hash.of(part);
      digest = stateDigest(hash, digest, partHash);
      await pacer.pass(length);
      const sequence = link.send('StatePart', { offset, hash: partHash }, [part]);
      this.#window.sent(slot, sequence, 0);
      counters.add('wireBytes', length);
    }
  }

  acknowledge(sequence: number): void {
    this.#window.acknowledge(sequence);
  }

  fail(error: Error): void {
    this.#window.fail(error);
  }

  /** What waits here is rejected. */
  close(error: Error): void {
    this.fail(error);
    this.#spool.close();
  }

  /** Bytes of the part at the offset, once all of it is there; 0: there is none. */
  async #grown(offset: number): Promise<number> {
    const { progress } = this.#spool;
    while (progress.available < offset + STATE_PART && !progress.complete)
      await progress.more(progress.available);
    return Math.max(0, Math.min(STATE_PART, progress.available - offset));
  }
}
