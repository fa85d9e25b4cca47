import type { Crew, Task } from '../crew/crew.ts';
import { GodwitError } from '../errors.ts';
import type { GuestLayout, RegionFile } from '../memory/guest-layout.ts';
import type { PageSet } from '../memory/page-set.ts';
import type { SpoolShare } from '../memory/state-spool.ts';
import type { Credentials } from '../wire/credentials.ts';
import { portsToTry } from '../wire/lane-door.ts';
import { COUNTERS_SIZE, Counters, type LaneTotals, sumCounters } from './counters.ts';
import type { Kept, ReceiveLaneData, ReceiveRequests } from './receive-protocol.ts';
import { RoundTags } from './round-tags.ts';

export const RECEIVE_LANE = new URL('./receive-lane.ts', import.meta.url);

/** Share of the measured rates that all lanes reach together: they share cores and memory. */
const TOGETHER = 0.7;

export interface ReceivePoolOptions {
  /** Who carries the lanes. */
  readonly crew: Crew;
  readonly lanes: number;
  readonly listenHost: string;
  readonly credentials: Credentials | undefined;
  readonly senderFingerprint: string;
  /** Ports to choose from; undefined: any. */
  readonly dataPorts: { readonly first: number; readonly last: number } | undefined;
  readonly migration: string;
  readonly secret: Uint8Array;
  readonly peerTimeoutMs: number;
  readonly hashSeed: bigint;
  readonly layout: GuestLayout;
  readonly memory: readonly RegionFile[];
  /** Gets the device state as it arrives: one writer for each lane. */
  readonly state: SpoolShare;
  /** As of a lane. */
  readonly tellsLoad: boolean;
  /** As of a lane. */
  readonly kept?: Kept | undefined;
  /** Gets every page that arrives; the caller takes them out. */
  readonly arrivals: PageSet | undefined;
  readonly onFailure: (error: GodwitError) => void;
}

/** The receiver's lanes of one migration. */
export class ReceivePool {
  #beginLane: (lane: number) => Task<ReceiveRequests>;
  #lanes: Task<ReceiveRequests>[] = [];
  #counters: Counters[];
  #tags: RoundTags | undefined;
  /** What the counters said at the end. */
  #final: LaneTotals | undefined;

  constructor(options: ReceivePoolOptions) {
    const { crew, lanes, layout, dataPorts, arrivals, onFailure, ...rest } = options;
    const buffers = Array.from({ length: lanes }, () => new SharedArrayBuffer(COUNTERS_SIZE));
    this.#counters = buffers.map((buffer) => new Counters(buffer));
    const tags = new RoundTags(layout.pfnEnd);
    this.#tags = tags;
    this.#beginLane = (lane) => {
      const data: ReceiveLaneData = {
        ...rest,
        lane,
        lanes,
        listenPorts: portsToTry(dataPorts),
        regions: layout.regions,
        roundTags: tags.buffer,
        arrivals: arrivals?.buffer,
        counters: buffers[lane]!,
      };
      return crew.begin<ReceiveRequests>(RECEIVE_LANE, data, onFailure);
    };
  }

  /** Begins the lanes; each listens on a port of its own. */
  async listen(): Promise<number[]> {
    this.#lanes = this.#counters.map((_, lane) => this.#beginLane(lane));
    return Promise.all(this.#lanes.map((lane) => lane.request('listen', undefined)));
  }

  /** Removes from `owed` what arrived in the round or later. */
  settle(owed: PageSet, round: number): void {
    this.#tags?.settle(owed, round);
  }

  /** Per lane, the digest of all pages as written. */
  digest(): Promise<bigint[]> {
    return Promise.all(this.#lanes.map((lane) => lane.request('digest', undefined)));
  }

  /** Re-reads all memory; the first page that is not what arrived, or undefined. */
  async verify(): Promise<number | undefined> {
    const wrong = await Promise.all(this.#lanes.map((lane) => lane.request('verify', undefined)));
    return wrong.find((pfn) => pfn !== undefined);
  }

  /** Bytes per second at which `verify` can be expected to go through memory. */
  async verifyRate(): Promise<number> {
    const rates = await Promise.all(
      this.#lanes.map((lane) => lane.request('verifyRate', undefined)),
    );
    return rates.reduce((sum, rate) => sum + rate, 0) * TOGETHER;
  }

  totals(): LaneTotals {
    return this.#final ?? sumCounters(this.#counters);
  }

  /** Bytes heard from the sender on all lanes. */
  get heardBytes(): number {
    return this.#counters.reduce((sum, counters) => sum + counters.get('heardBytes'), 0);
  }

  /** Ends the lanes: connections, listeners and open files go with them. Only the totals are kept. */
  async close(): Promise<void> {
    this.#final ??= this.totals();
    const lanes = this.#lanes;
    this.#lanes = [];
    this.#counters = [];
    this.#beginLane = wantedNoMore;
    this.#tags = undefined;
    await Promise.all(lanes.map((lane) => lane.stop()));
  }
}

function wantedNoMore(): never {
  throw new GodwitError('cancelled', 'the lanes are wanted no more');
}
