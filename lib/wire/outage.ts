import { type ErrorCode, GodwitError } from '../errors.ts';
import type { KindName } from './kinds.ts';

/** A connection that stood for less was of no use, ms. */
const SHORT_MS = 2000;
/** A frame above this may be larger than a packet on the way; all that a handshake says is smaller. */
const SMALL_FRAME = 1200;

/** What waits for an acknowledgement, oldest first. */
type Waiting = { readonly kind: KindName; readonly bytes: number };

/**
 * How long a link has been without progress. Progress is what the peer acknowledged: a connection
 * that can be made and carries nothing does not count, so that a path with a hole in it is not tried
 * for ever. The clock starts when a connection is lost, and stops when the peer has acknowledged
 * something after that, or when there is nothing that it could acknowledge. A connection that stands
 * when the time is up is judged by its end.
 */
export class Outage {
  readonly #limitMs: number | undefined;
  readonly #onOver: (error: GodwitError) => void;
  #clock: NodeJS.Timeout | undefined;
  #spent = false;
  #connected = true;
  #joinedMs = performance.now();
  /** Connections one after the other that stood for a short time. */
  #flaps = 0;
  #rejoins = 0;
  #first: GodwitError | undefined;
  #last: GodwitError | undefined;
  #waiting: readonly Waiting[] = [];

  /** @param onOver called when the time is up, with no-progress or reconnect-timeout */
  constructor(limitMs: number | undefined, onOver: (error: GodwitError) => void) {
    this.#limitMs = limitMs;
    this.#onOver = onOver;
  }

  /** How often in a row a connection was made that did not last. */
  get flaps(): number {
    return this.#flaps;
  }

  lost(error: GodwitError, waiting: readonly Waiting[]): void {
    this.#connected = false;
    this.#flaps = performance.now() - this.#joinedMs < SHORT_MS ? this.#flaps + 1 : 0;
    this.#first ??= error;
    this.#last = error;
    this.#waiting = waiting;
    if (this.#limitMs === undefined) return;
    if (this.#spent) return this.#onOver(this.#reason());
    this.#clock ??= setTimeout(() => this.#timeUp(), this.#limitMs);
  }

  failed(error: GodwitError): void {
    this.#last = error;
  }

  /** Connected again; `waiting` is the first that is to be sent again. */
  joined(waiting: Waiting | undefined): void {
    this.#connected = true;
    this.#joinedMs = performance.now();
    this.#rejoins++;
    if (waiting === undefined) this.over();
  }

  /** The peer has acknowledged something, or nothing is wanted any more: the clock stops. */
  over(): void {
    this.#rejoins = 0;
    clearTimeout(this.#clock);
    this.#clock = undefined;
    this.#spent = false;
    this.#first = undefined;
    this.#last = undefined;
    this.#waiting = [];
  }

  #timeUp(): void {
    this.#spent = true;
    if (!this.#connected) this.#onOver(this.#reason());
  }

  #reason(): GodwitError {
    const [first, last] = [this.#first!, this.#last!];
    const why = (code: ErrorCode, text: string) => new GodwitError(code, text, { cause: last });
    const within = `within ${this.#limitMs} ms`;
    const tried = last === first ? '' : `; the last attempt: ${last.message}`;
    if (this.#rejoins === 0 || this.#waiting.length === 0)
      return why(
        'reconnect-timeout',
        `the connection was lost (${first.message}) and did not come back ${within}${tried}`,
      );
    return why(
      'no-progress',
      `the connection was lost (${first.message}) and made again ${times(this.#rejoins)}, but the peer acknowledged nothing more ${within}: ${this.#stuck()}${tried}`,
    );
  }

  #stuck(): string {
    const { kind, bytes } = this.#waiting[0]!;
    const stuck = `${this.#waiting.length} frames wait, the first of them ${kind} with ${bytes} bytes`;
    return bytes <= SMALL_FRAME
      ? stuck
      : `${stuck}; small frames pass and large ones do not: is there a smaller MTU on the way than at its ends?`;
  }
}

function times(count: number): string {
  return count === 1 ? 'once' : `${count} times`;
}
