import type { Crew, Task } from '../../crew/crew.ts';
import { asGodwitError, GodwitError } from '../../errors.ts';
import { GuestLayout, PAGE_SIZE } from '../../memory/guest-layout.ts';
import { PageSet } from '../../memory/page-set.ts';
import type { StateSpool } from '../../memory/state-spool.ts';
import { within } from '../../poll.ts';
import type { GuestDescription, Published, PushingGuest } from '../guest.ts';
import { inThisBoot } from '../handle.ts';
import type { RecallPlace } from '../recall/recall-protocol.ts';
import { movable, type RunState } from '../run-state.ts';
import { readConfig, type XenConfig } from './config.ts';
import { XenSourceCopy } from './copy.ts';
import { deviceModelOf, HYPERVISOR, regionsOf } from './device-model.ts';
import { HelpedRounds } from './helped-rounds.ts';
import {
  nowMs,
  type RoundMark,
  XEN_INGEST,
  type XenIngestData,
  type XenIngestRequests,
  type XenPrologue,
} from './ingest-protocol.ts';
import { streamSocketOf, TransportClient } from './transport-protocol.ts';
import type { Xl, XlDomain } from './xl.ts';

/** libxl sets the save up, and asks the hypervisor for the log of dirty pages. */
const PROLOGUE_LIMIT_MS = 30_000;
/** xl renames its domain and says GO. */
const GO_LIMIT_MS = 10_000;
/** Pfns below 4 GiB: a guest that is no PV one has holes there, and memory beyond. */
const PFNS_BELOW_4_GIB = 2 ** 20;

/**
 * The guest that an `agent-send xl` moves, which waits with its first page.
 * @throws GodwitError guest-not-running, hypervisor-failed, not-seen, xen-stream, bad-message
 */
export async function connectXenSource(xl: Xl, control: string, crew: Crew): Promise<PushingGuest> {
  const transport = await TransportClient.connect(control);
  const failure = Promise.withResolvers<never>();
  failure.promise.catch(() => {});
  const data: XenIngestData = { path: streamSocketOf(control) };
  const ingest = crew.begin<XenIngestRequests>(XEN_INGEST, data, failure.reject);
  try {
    const late = () => new GodwitError('not-seen', 'xl sends no page of its guest');
    const heard = Promise.race([ingest.request('prologue', undefined), failure.promise]);
    const prologue = await within(PROLOGUE_LIMIT_MS, heard, late);
    const config = readConfig(prologue.config);
    const domain = await xl.domain(config.uuid);
    if (domain === undefined)
      throw new GodwitError('not-seen', `Xen has no domain of guest ${config.name}`);
    if (movable(config.name, domain.state) === 'paused')
      throw new GodwitError(
        'guest-not-running',
        `guest ${config.name} is paused; xl moves only one that runs`,
      );
    return new XenSource({ xl, transport, ingest, failure, prologue, config, domain });
  } catch (error) {
    await ingest.stop();
    transport.close();
    throw error;
  }
}

interface Parts {
  readonly xl: Xl;
  readonly transport: TransportClient;
  readonly ingest: Task<XenIngestRequests>;
  /** Rejects when the stream ends or holds what it should not. */
  readonly failure: PromiseWithResolvers<never>;
  readonly prologue: XenPrologue;
  readonly config: XenConfig;
  readonly domain: XlDomain;
}

/**
 * What xl moves: it makes its five rounds and suspends the guest when it sees fit. That shows in its
 * stream afterwards, so that each round could be the last as long as nothing shows. A helper of ours
 * between xl and Xen's own knows both, and has the suspension wait.
 */
class XenSource extends XenSourceCopy implements PushingGuest {
  readonly pages = 'pushed';
  readonly arrives = 'running';
  readonly description: GuestDescription;
  readonly deviceStateBytes = undefined;
  readonly recallPlace: RecallPlace;
  readonly ingest: Task<XenIngestRequests>;
  readonly #regions: ReturnType<typeof regionsOf>;
  readonly #pfnEnd: number;
  #mark: RoundMark | undefined;
  #stands: RoundMark | undefined;
  /** xl has given the guest away, or is told to. */
  #sealed = false;
  /** Nothing more is wanted of its stream. */
  #left = false;
  #leaving: Promise<void> | undefined;
  /** Set where a helper of ours is between xl and its own: it tells of the rounds, and waits at their end. */
  readonly #helped: HelpedRounds | undefined;
  #passListener: (() => void) | undefined;
  #ownSuspension: (() => void) | undefined;
  #deathListener: ((error: Error) => void) | undefined;

  constructor({ xl, transport, ingest, failure, prologue, config, domain }: Parts) {
    const { name, uuid, memoryBytes } = config;
    const process = inThisBoot(transport.greeted.xl);
    const { domid } = domain;
    const at = { socket: transport.path, uuid, domid, process };
    super(xl, { kind: HYPERVISOR, guest: name, ...at, ram: [] }, transport);
    this.#regions = regionsOf(prologue.pfnEnd ?? pfnEndOf(memoryBytes));
    const deviceModel = deviceModelOf(prologue.bytes);
    this.description = { name, hypervisor: HYPERVISOR, deviceModel, regions: this.#regions };
    const { pfnEnd, totalPages } = new GuestLayout(this.#regions);
    this.#pfnEnd = pfnEnd;
    this.ingest = ingest;
    if (transport.helper.state !== 'none')
      this.#helped = new HelpedRounds(
        transport,
        (round) => ingest.request('round', round),
        totalPages,
      );
    this.recallPlace = { kind: 'xen', socket: transport.path };
    failure.promise.catch((error) => this.#fail(asGodwitError(error)));
    transport.onClose(() =>
      this.#fail(new GodwitError('hypervisor-failed', 'xl, or its agent-send xl, has ended')),
    );
  }

  get ownPace(): NonNullable<PushingGuest['ownPace']> {
    const since = this.#stands ?? (this.#helped ? undefined : this.#mark);
    const standsMs = since && nowMs() - since.atMs;
    return { stands: this.#stands !== undefined, standsMs, asks: this.#helped?.asks };
  }

  get pass(): PushingGuest['pass'] {
    if (this.#helped) return this.#helped.pass;
    const { ended, pages } = this.#mark ?? { ended: 0, pages: 0 };
    return { number: ended + 1, dirtyPages: pages };
  }

  onPass(listener: () => void): void {
    this.#passListener = listener;
  }

  onOwnSuspension(listener: () => void): void {
    this.#ownSuspension = listener;
    if (this.#stands) listener();
  }

  /** What stops it besides its migration is not told by xl. */
  onStopped(): void {}

  onDeath(listener: (error: Error) => void): void {
    this.#deathListener = listener;
  }

  async startPushing(rings: readonly SharedArrayBuffer[]): Promise<void> {
    await this.ingest.request('read', { regions: this.#regions, rings });
    this.#helped?.follow(() => this.#passListener?.());
    if (this.#helped) return;
    void this.#follow();
    this.ingest.request('suspended', undefined).then(
      (mark) => {
        this.#stands = mark;
        this.#ownSuspension?.();
      },
      () => {}, // told as a failure
    );
  }

  /** It may stand already: it is never kept waiting. */
  async hold(): Promise<void> {}
  async rest(): Promise<void> {}
  async goOn(): Promise<void> {}
  readonly slow = false;

  /** xl does not tell: about as many as in the round before. */
  async pendingPages(): Promise<number> {
    if (this.#helped && !this.#stands)
      return Math.min(this.#helped.dirtyPages, this.#regions[0].pages);
    return (this.#stands ?? this.#mark)?.pages ?? 0;
  }

  async publish(round: number): Promise<Published> {
    const { chunks, pages } = await this.ingest.request('publish', round);
    return { chunks, pages: new PageSet(this.#pfnEnd, pages) };
  }

  async pushedAll(): Promise<void> {
    await this.ingest.request('suspended', undefined);
  }

  /** While the guest runs xl's helper is told to end, and cleans up; a guest that stands is resumed by xl. */
  stopPushing(): Promise<void> {
    this.#leaving ??= this.#leave();
    return this.#leaving;
  }

  /** Resolves when xl has suspended it, and its last page was read. Without a helper of ours nobody tells it to. */
  override async suspend(onStop?: (agoMs: number) => void): Promise<RunState> {
    if (this.#helped) {
      const { pass, dirtyPages } = this.#helped;
      this.#stands = { ended: pass.number - 1, pages: dirtyPages, atMs: nowMs() };
      onStop?.(0); // it stops somewhat later
      await this.tell('suspend');
      await this.ingest.request('suspended', undefined);
      return 'migrated';
    }
    const { atMs } = await this.ingest.request('suspended', undefined);
    onStop?.(nowMs() - atMs);
    return 'migrated';
  }

  async saveInto(spool: StateSpool): Promise<void> {
    await this.ingest.request('saveInto', spool.share);
  }

  saveDeviceState(): Promise<number> {
    return this.ingest.request('saved', undefined);
  }

  /** xl hears that all is loaded, and says GO: from there on it resumes the guest only when it is told to. */
  override async seal(): Promise<Uint8Array> {
    this.#sealed = true;
    await this.tell('ready');
    const late = () => new GodwitError('hypervisor-failed', 'xl does not give the guest away');
    await within(GO_LIMIT_MS, this.ingest.request('go', undefined), late);
    return new Uint8Array(0);
  }

  override async resume(): Promise<RunState> {
    this.#left = true;
    return super.resume();
  }

  override async destroy(): Promise<void> {
    this.#left = true;
    await super.destroy();
  }

  override close(): void {
    void this.stopPushing()
      .catch(() => {}) // gone with xl
      .then(() => super.close());
  }

  /** Rounds as they end, until the stream does. */
  async #follow(): Promise<void> {
    try {
      for (let ended = 1; !this.#left; ended = this.#mark!.ended + 1) {
        this.#mark = await this.ingest.request('round', ended);
        this.#passListener?.();
      }
    } catch {
      // told as a failure
    }
  }

  async #leave(): Promise<void> {
    const said = this.#left || this.#sealed;
    this.#left = true;
    try {
      if (!said) await this.tell(this.#stands === undefined ? 'abort' : 'deny');
    } finally {
      await this.ingest.stop();
    }
  }

  #fail(error: GodwitError): void {
    if (!this.#left) this.#deathListener?.(error);
  }
}

/** Of a guest that is no PV one: below 4 GiB its memory has holes, what does not fit there is above. */
function pfnEndOf(memoryBytes: number): number {
  const pages = Math.ceil(memoryBytes / PAGE_SIZE);
  return PFNS_BELOW_4_GIB + (pages > PFNS_BELOW_4_GIB / 2 ? pages : 0);
}
