import type { GodwitError } from '../errors.ts';
import type { GuestLayout } from '../memory/guest-layout.ts';
import type { PageSet } from '../memory/page-set.ts';
import type { Security } from '../wire/credentials.ts';
import { type ChannelTotals, COUNTERS_SIZE, Counters, sumCounters } from './counters.ts';
import { PACER_SIZE, Pacer } from './pacer.ts';
import type { PagesOfWorker, SendRequests, SendWorkerData } from './send-protocol.ts';
import { WorkerLink } from './worker-link.ts';

export interface SendPoolOptions {
  readonly host: string;
  /** One listening port of the receiver per channel. */
  readonly ports: readonly number[];
  readonly connectTimeoutMs: number;
  readonly security: Security;
  readonly stallTimeoutMs: number;
  readonly reconnectTimeoutMs: number;
  readonly migration: string;
  readonly secret: Uint8Array;
  readonly hashSeed: bigint;
  readonly layout: GuestLayout;
  /** Where each channel's worker has its pages from. */
  readonly pagesOf: (channel: number) => PagesOfWorker;
  readonly window: number;
  readonly compression: 'auto' | 'off';
  /** Cap over all channels, bytes per second. */
  readonly bandwidth: number | undefined;
  /** Called once for the first worker that fails outside a request. */
  readonly onFailure: (error: GodwitError) => void;
}

/** The sender's workers of one migration, one for each channel. */
export class SendPool {
  readonly #workers: WorkerLink<SendRequests>[];
  readonly #counters: Counters[];
  readonly #interrupted = new Int32Array(new SharedArrayBuffer(4));
  readonly #pacer: Pacer;
  #round = 0;

  /** Starts the workers; `open` connects them. */
  constructor(options: SendPoolOptions) {
    const { ports, layout, bandwidth, pagesOf, onFailure, ...rest } = options;
    const pacer = new SharedArrayBuffer(PACER_SIZE);
    this.#pacer = new Pacer(pacer);
    this.#pacer.setRate(bandwidth);
    const buffers = ports.map(() => new SharedArrayBuffer(COUNTERS_SIZE));
    this.#counters = buffers.map((buffer) => new Counters(buffer));
    this.#workers = ports.map((port, channel) => {
      const data: SendWorkerData = {
        ...rest,
        port,
        channel,
        channels: ports.length,
        pages: pagesOf(channel),
        regions: layout.regions,
        pacer,
        counters: buffers[channel]!,
        interrupted: this.#interrupted.buffer as SharedArrayBuffer,
      };
      return new WorkerLink<SendRequests>(
        new URL('./send-worker.ts', import.meta.url),
        data,
        onFailure,
      );
    });
  }

  /** Connects every channel. */
  async open(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.request('open', undefined)));
  }

  /**
   * Sends the set, taking out of it what is sent; resolves when everything sent is acknowledged.
   * True: `interrupt` cut it short and the rest is still in the set.
   */
  async sendRound(round: number, set: PageSet): Promise<boolean> {
    this.#round = round;
    const results = await Promise.all(
      this.#workers.map((worker) => worker.request('round', { round, set: set.buffer })),
    );
    return results.includes(true);
  }

  /** Resolves when that many chunks of each channel's ring are acknowledged, since the beginning. */
  async settled(chunks: readonly number[]): Promise<void> {
    await Promise.all(this.#workers.map((worker, i) => worker.request('settled', chunks[i]!)));
  }

  /** Stops the running round between two chunks. */
  interrupt(): void {
    Atomics.store(this.#interrupted, 0, this.#round);
  }

  /** The control connection is dead, for that reason: the others probably are, too. */
  suspect(reason: string): void {
    for (const worker of this.#workers) worker.request('suspect', reason).catch(() => {});
  }

  /** Per channel, the digest of all pages as last sent. */
  digest(): Promise<bigint[]> {
    return Promise.all(this.#workers.map((worker) => worker.request('digest', undefined)));
  }

  /** Changes the cap, bytes per second over all channels. */
  setBandwidth(bytesPerSecond: number | undefined): void {
    this.#pacer.setRate(bytesPerSecond);
  }

  totals(): ChannelTotals {
    return sumCounters(this.#counters);
  }

  /** Ends the threads and with them their connections. */
  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.stop()));
  }
}
