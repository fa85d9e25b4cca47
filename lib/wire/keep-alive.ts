import { GodwitError } from '../errors.ts';

export interface KeepAliveLimits {
  /** Time between two pings, ms. */
  readonly pingMs: number;
  /** Time after which a peer that says nothing is given up, ms. */
  readonly silenceMs: number;
}

/** The defaults of proto/WIRE.md: five pings may get lost in a stall before the peer is given up. */
export const PEER_LIMITS: KeepAliveLimits = { pingMs: 1000, silenceMs: 5000 };

/** Share of a new sample in the smoothed round trip, as in TCP (RFC 6298, alpha). */
const RTT_SHARE = 1 / 8;

/** Pings a peer, measures the round trip and notices silence. `stop` frees its timers. */
export class KeepAlive {
  readonly #silenceMs: number;
  readonly #onSilence: (error: GodwitError) => void;
  readonly #pingTimer: NodeJS.Timeout;
  readonly #silenceTimer: NodeJS.Timeout;
  #suspected = false;
  #rttMs: number | undefined;
  #stopped = false;

  constructor(
    limits: KeepAliveLimits,
    sendPing: (cookie: number) => void,
    onSilence: (error: GodwitError) => void,
  ) {
    this.#silenceMs = limits.silenceMs;
    this.#onSilence = onSilence;
    this.#pingTimer = setInterval(() => sendPing(microseconds()), limits.pingMs);
    this.#silenceTimer = setTimeout(() => this.#suspect(), limits.silenceMs);
  }

  /** Smoothed round trip, ms; undefined until a ping has been answered. */
  get rttMs(): number | undefined {
    return this.#rttMs;
  }

  /** Something, whatever it is, came from the peer. */
  heard(): void {
    this.#suspected = false;
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
      this.#onSilence(
        new GodwitError('peer-silent', `the peer has said nothing for ${this.#silenceMs} ms`),
      );
    });
  }
}

function microseconds(): number {
  return Math.round(performance.now() * 1000);
}
