import { GodwitError } from '../errors.ts';

export interface KeepAliveLimits {
  /** Time between two pings, ms. */
  readonly pingMs: number;
  /** Time after which a peer that says nothing is given up, ms. */
  readonly silenceMs: number;
}

/** Share of a new sample in the smoothed round trip, as in TCP (RFC 6298, alpha). */
const RTT_SHARE = 1 / 8;
/**
 * Longest silence, in `silenceMs`, of a peer that is heard elsewhere: its pings may stand behind bulk
 * data in a queue on the way, for seconds on a slow line, but not for ever.
 */
const ELSEWHERE_FACTOR = 6;

/** Pings a peer, measures the round trip and notices silence. `stop` frees its timers. */
export class KeepAlive {
  readonly #silenceMs: number;
  readonly #heardElsewhere: () => number;
  readonly #onSilence: (error: GodwitError) => void;
  readonly #pingTimer: NodeJS.Timeout;
  readonly #silenceTimer: NodeJS.Timeout;
  #suspected = false;
  #heardMs = performance.now();
  /** What had been heard elsewhere at the last look, and when that had grown. */
  #elsewhere = 0;
  #elsewhereMs = Number.NEGATIVE_INFINITY;
  #rttMs: number | undefined;
  #stopped = false;

  /** @param heardElsewhere bytes heard so far from the same peer on other connections */
  constructor(
    limits: KeepAliveLimits,
    sendPing: (cookie: number) => void,
    heardElsewhere: () => number,
    onSilence: (error: GodwitError) => void,
  ) {
    this.#silenceMs = limits.silenceMs;
    this.#heardElsewhere = heardElsewhere;
    this.#onSilence = onSilence;
    this.#pingTimer = setInterval(() => {
      this.#lookElsewhere();
      sendPing(microseconds());
    }, limits.pingMs);
    this.#silenceTimer = setTimeout(() => this.#suspect(), limits.silenceMs);
  }

  /** Smoothed round trip, ms; undefined until a ping has been answered. */
  get rttMs(): number | undefined {
    return this.#rttMs;
  }

  /** Something, whatever it is, came from the peer. */
  heard(): void {
    this.#suspected = false;
    this.#heardMs = performance.now();
    if (!this.#stopped) this.#silenceTimer.refresh();
  }

  /**
   * A ping was answered. The cookie is the time at which it was sent.
   * @throws GodwitError bad-message for a cookie that was never sent
   */
  answered(cookie: number): void {
    const sample = (microseconds() - cookie) / 1000;
    if (sample < 0) throw new GodwitError('bad-message', 'a Pong answers a Ping that was not sent');
    this.#rttMs =
      this.#rttMs === undefined ? sample : this.#rttMs + (sample - this.#rttMs) * RTT_SHARE;
  }

  stop(): void {
    this.#stopped = true;
    clearInterval(this.#pingTimer);
    clearTimeout(this.#silenceTimer);
  }

  /**
   * After a stall of our own the timer runs out before the socket is read: let what is waiting
   * there be heard first.
   */
  #suspect(): void {
    this.#suspected = true;
    setImmediate(() => {
      if (this.#stopped || !this.#suspected) return;
      this.#lookElsewhere();
      const now = performance.now();
      const longestMs = this.#silenceMs * ELSEWHERE_FACTOR;
      const alive = now - this.#elsewhereMs < this.#silenceMs && now - this.#heardMs < longestMs;
      if (alive) this.#silenceTimer.refresh();
      else this.#onSilence(silent(this.#silenceMs));
    });
  }

  #lookElsewhere(): void {
    const heard = this.#heardElsewhere();
    if (heard > this.#elsewhere) this.#elsewhereMs = performance.now();
    this.#elsewhere = heard;
  }
}

function silent(ms: number): GodwitError {
  return new GodwitError('peer-silent', `the peer has said nothing for ${ms} ms`);
}

function microseconds(): number {
  return Math.round(performance.now() * 1000);
}
