import type { GodwitError } from '../errors.ts';
import type { GuestLayout, RegionFile } from '../memory/guest-layout.ts';
import type { PageSet } from '../memory/page-set.ts';
import type { Credentials } from '../wire/credentials.ts';
import { type ChannelTotals, COUNTERS_SIZE, Counters, sumCounters } from './counters.ts';
import type { ReceiveRequests, ReceiveWorkerData } from './receive-protocol.ts';
import { RoundTags } from './round-tags.ts';
import { WorkerLink } from './worker-link.ts';

/** Share of the measured rates that all workers reach together: they share cores and memory. */
const TOGETHER = 0.7;

export interface ReceivePoolOptions {
  readonly channels: number;
  readonly listenHost: string;
  readonly credentials: Credentials | undefined;
  readonly senderFingerprint: string;
  /** Ports to choose from; undefined: any. */
  readonly dataPorts: { readonly first: number; readonly last: number } | undefined;
  readonly migration: string;
  readonly secret: Uint8Array;
  readonly hashSeed: bigint;
  readonly layout: GuestLayout;
  readonly memory: readonly RegionFile[];
  /** Gets every page that arrives; the caller takes them out. */
  readonly arrivals: PageSet | undefined;
  readonly onFailure: (error: GodwitError) => void;
}

/** The receiver's workers of one migration, one for each channel. */
export class ReceivePool {
  readonly #workers: WorkerLink<ReceiveRequests>[];
  readonly #counters: Counters[];
  readonly #tags: RoundTags;

  constructor(options: ReceivePoolOptions) {
    const { channels, layout, dataPorts, arrivals, onFailure, ...rest } = options;
    const buffers = Array.from({ length: channels }, () => new SharedArrayBuffer(COUNTERS_SIZE));
    this.#counters = buffers.map((buffer) => new Counters(buffer));
    this.#tags = new RoundTags(layout.pfnEnd);
    this.#workers = buffers.map((counters, channel) => {
      const data: ReceiveWorkerData = {
        ...rest,
        channel,
        channels,
        listenPorts: portsToTry(dataPorts),
        regions: layout.regions,
        roundTags: this.#tags.buffer,
        arrivals: arrivals?.buffer,
        counters,
      };
      return new WorkerLink<ReceiveRequests>(
        new URL('./receive-worker.ts', import.meta.url),
        data,
        onFailure,
      );
    });
  }

  /** Listens on a port for each channel. */
  listen(): Promise<number[]> {
    return Promise.all(this.#workers.map((worker) => worker.request('listen', undefined)));
  }

  /** Removes from `owed` what arrived in the round or later. */
  settle(owed: PageSet, round: number): void {
    this.#tags.settle(owed, round);
  }

  /** Per channel, the digest of all pages as written. */
  digest(): Promise<bigint[]> {
    return Promise.all(this.#workers.map((worker) => worker.request('digest', undefined)));
  }

  /** Re-reads all memory; the first page that is not what arrived, or undefined. */
  async verify(): Promise<number | undefined> {
    const wrong = await Promise.all(
      this.#workers.map((worker) => worker.request('verify', undefined)),
    );
    return wrong.find((pfn) => pfn !== undefined);
  }

  /** Bytes per second at which `verify` can be expected to go through memory. */
  async verifyRate(): Promise<number> {
    const rates = await Promise.all(
      this.#workers.map((worker) => worker.request('verifyRate', undefined)),
    );
    return rates.reduce((sum, rate) => sum + rate, 0) * TOGETHER;
  }

  totals(): ChannelTotals {
    return sumCounters(this.#counters);
  }

  /** Ends the threads: connections, listeners and open files go with them. */
  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.stop()));
  }
}

function portsToTry(range: { first: number; last: number } | undefined): number[] {
  if (!range) return [0];
  return Array.from({ length: range.last - range.first + 1 }, (_, i) => range.first + i);
}
