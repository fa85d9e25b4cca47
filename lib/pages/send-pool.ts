import type { AnyTask, Crew, Task } from '../crew/crew.ts';
import { GodwitError } from '../errors.ts';
import type { GuestLayout } from '../memory/guest-layout.ts';
import type { PageSet } from '../memory/page-set.ts';
import type { SpoolShare } from '../memory/state-spool.ts';
import type { Security } from '../wire/credentials.ts';
import { COUNTERS_SIZE, Counters, type LaneTotals, sumCounters } from './counters.ts';
import { PACER_SIZE, Pacer } from './pacer.ts';
import {
  ORDERS,
  ORDERS_SIZE,
  type PagesOfLane,
  type SendLaneData,
  type SendRequests,
} from './send-protocol.ts';

export const SEND_LANE = new URL('./send-lane.ts', import.meta.url);

export interface SendPoolOptions {
  /** Who carries the lanes. */
  readonly crew: Crew;
  readonly host: string;
  /** One listening port of the receiver per lane. */
  readonly ports: readonly number[];
  readonly connectTimeoutMs: number;
  readonly security: Security;
  readonly stallTimeoutMs: number;
  readonly reconnectTimeoutMs: number;
  readonly migration: string;
  readonly secret: Uint8Array;
  readonly hashSeed: bigint;
  /** As of a lane. */
  readonly keptSecret?: Uint8Array | undefined;
  readonly layout: GuestLayout;
  /** Where each lane has its pages from. */
  readonly pagesOf: (lane: number) => PagesOfLane;
  /** The task that fills their rings, if one does: all lanes are then in its worker. */
  readonly beside?: AnyTask | undefined;
  /** Where the guest's device state will come in. */
  readonly state: SpoolShare;
  readonly window: number;
  readonly compression: 'auto' | 'off';
  /** Cap over all lanes, bytes per second. */
  readonly bandwidth: number | undefined;
  /** Called for each lane that fails outside a request. */
  readonly onFailure: (error: GodwitError) => void;
}

/** The sender's lanes of one migration. */
export class SendPool {
  #beginLane: (lane: number) => Task<SendRequests>;
  #lanes: Task<SendRequests>[] = [];
  #counters: Counters[];
  readonly #orders = new Int32Array(new SharedArrayBuffer(ORDERS_SIZE));
  readonly #pacer: Pacer;
  /** Shared memory of the cap, for what else travels under it. */
  readonly pacer = new SharedArrayBuffer(PACER_SIZE);
  #round = 0;
  /** What the counters said at the end. */
  #final: LaneTotals | undefined;

  /** `open` begins the lanes and connects them. */
  constructor(options: SendPoolOptions) {
    const { crew, ports, layout, bandwidth, pagesOf, beside, onFailure, ...rest } = options;
    const { pacer } = this;
    this.#pacer = new Pacer(pacer);
    this.#pacer.setRate(bandwidth);
    const buffers = ports.map(() => new SharedArrayBuffer(COUNTERS_SIZE));
    this.#counters = buffers.map((buffer) => new Counters(buffer));
    this.#beginLane = (lane) => {
      const data: SendLaneData = {
        ...rest,
        port: ports[lane]!,
        lane,
        lanes: ports.length,
        pages: pagesOf(lane),
        regions: layout.regions,
        pacer,
        counters: buffers[lane]!,
        orders: this.#orders.buffer as SharedArrayBuffer,
      };
      return crew.begin<SendRequests>(SEND_LANE, data, onFailure, beside);
    };
  }

  /** Begins the lanes and connects each. */
  async open(): Promise<void> {
    this.#lanes = this.#counters.map((_, lane) => this.#beginLane(lane));
    await Promise.all(this.#lanes.map((lane) => lane.request('open', undefined)));
  }

  /**
   * Sends the set, taking out of it what is sent; resolves when everything sent is acknowledged.
   * True: `interrupt` cut it short and the rest is still in the set.
   */
  async sendRound(round: number, set: PageSet): Promise<boolean> {
    this.#round = round;
    const results = await Promise.all(
      this.#lanes.map((lane) => lane.request('round', { round, set: set.buffer })),
    );
    return results.includes(true);
  }

  /** Resolves when that many chunks of each lane's ring are acknowledged, since the beginning. */
  async settled(chunks: readonly number[]): Promise<void> {
    await Promise.all(this.#lanes.map((lane, i) => lane.request('settled', chunks[i]!)));
  }

  /** Sends the device state as it grows; resolves to the digest of each lane's parts when all are on their way. */
  sendState(): Promise<bigint[]> {
    return Promise.all(this.#lanes.map((lane) => lane.request('state', undefined)));
  }

  /** Stops the running round between two chunks. */
  interrupt(): void {
    Atomics.store(this.#orders, ORDERS.interrupted, this.#round);
  }

  /** The guest is suspended: its lanes come before those of other migrations. */
  hurry(): void {
    Atomics.store(this.#orders, ORDERS.urgent, 1);
  }

  /** The control connection is dead, for that reason: the others probably are, too. */
  suspect(reason: string): void {
    for (const lane of this.#lanes) lane.request('suspect', reason).catch(() => {});
  }

  /** Per lane, the digest of all pages as last sent. */
  digest(): Promise<bigint[]> {
    return Promise.all(this.#lanes.map((lane) => lane.request('digest', undefined)));
  }

  /** Changes the cap, bytes per second over all lanes. */
  setBandwidth(bytesPerSecond: number | undefined): void {
    this.#pacer.setRate(bytesPerSecond);
  }

  totals(): LaneTotals {
    return this.#final ?? sumCounters(this.#counters);
  }

  /** Guest bytes per second of single batches on one lane, without the cap; 0: there were none. */
  get burstRate(): number {
    const sum = (field: 'burstBytes' | 'burstMs') =>
      this.#counters.reduce((all, counters) => all + counters.get(field), 0);
    const ms = sum('burstMs');
    return ms > 0 ? (sum('burstBytes') / ms) * 1000 : 0;
  }

  /** Bytes heard from the receiver on all lanes. */
  get heardBytes(): number {
    return this.#counters.reduce((sum, counters) => sum + counters.get('heardBytes'), 0);
  }

  /** Ends the lanes and with them their connections; only the totals are kept. */
  async close(): Promise<void> {
    this.#final ??= this.totals();
    const lanes = this.#lanes;
    this.#lanes = [];
    this.#counters = [];
    this.#beginLane = wantedNoMore;
    await Promise.all(lanes.map((lane) => lane.stop()));
  }
}

function wantedNoMore(): never {
  throw new GodwitError('cancelled', 'the lanes are wanted no more');
}
