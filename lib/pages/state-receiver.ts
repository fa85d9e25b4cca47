import { GodwitError } from '../errors.ts';
import { STATE_PART } from '../memory/state-progress.ts';
import { SpoolEnd, type SpoolShare } from '../memory/state-spool.ts';
import type { StatePart } from '../wire/messages.ts';
import type { PageHash } from './hash.ts';
import { stateDigest } from './state-digest.ts';

export interface StateReceiverOptions {
  readonly spool: SpoolShare;
  readonly lane: number;
  readonly lanes: number;
  readonly hash: PageHash;
}

/** A lane's share of the device state as it arrives: checked part by part, and written. */
export class StateReceiver {
  readonly #options: StateReceiverOptions;
  readonly #spool: SpoolEnd;
  #due: number;
  #bytes = 0;
  #digest = 0n;

  constructor(options: StateReceiverOptions) {
    this.#options = options;
    this.#spool = new SpoolEnd(options.spool);
    this.#due = options.lane * STATE_PART;
  }

  /**
   * @throws GodwitError device-state-invalid for a part that is not the next of the lane, is damaged or
   *   too much; ram-file-failed when there is no room
   */
  take({ offset, hash: sent }: StatePart, part: Buffer): void {
    const { lane, lanes, hash } = this.#options;
    if (this.#bytes % STATE_PART !== 0)
      throw invalid(`a part follows the last one on lane ${lane}`);
    if (offset !== this.#due || part.length === 0)
      throw invalid(
        `${part.length} bytes at ${offset} came on lane ${lane}, where ${this.#due} was due`,
      );
    const own = hash.of(part);
    if (own !== sent) throw invalid(`the part at ${offset} is not what was sent`);
    this.#spool.write(offset, part);
    this.#due += lanes * STATE_PART;
    this.#bytes += part.length;
    this.#digest = stateDigest(hash, this.#digest, own);
    this.#spool.progress.wrote(lane, this.#bytes, this.#digest);
  }

  close(): void {
    this.#spool.close();
  }
}

function invalid(why: string): GodwitError {
  return new GodwitError('device-state-invalid', `device state: ${why}`);
}
