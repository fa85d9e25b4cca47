import { randomBytes } from 'node:crypto';
import { formatAddress } from '../lib/control/address.ts';
import type { LimitsPatch, MigrationRequest, MigrationView, Phase } from '../lib/control/view.ts';
import { asGodwitError, GodwitError } from '../lib/errors.ts';
import type { GuestCopy, Moment, SourceGuest } from '../lib/guest/guest.ts';
import { startSource } from '../lib/handover/source-machine.ts';
import type { Journal } from '../lib/journal/journal.ts';
import { CHUNK_SIZE, GuestLayout, PAGE_SIZE } from '../lib/memory/guest-layout.ts';
import { totalsSince } from '../lib/pages/counters.ts';
import { PageHash } from '../lib/pages/hash.ts';
import { SendPool } from '../lib/pages/send-pool.ts';
import type { SuspensionCosts } from '../lib/precopy/estimate.ts';
import { policyLimits } from '../lib/precopy/limits.ts';
import { type OpenPolicy, type PrecopyResult, precopy } from '../lib/precopy/loop.ts';
import type { RoundReport } from '../lib/precopy/measurements.ts';
import { openPolicy } from '../lib/precopy/policy/open.ts';
import { enforcedSuspendMs, type PrecopyStats } from '../lib/precopy/stats.ts';
import { Steering } from '../lib/precopy/steering.ts';
import type { LedgerWriter } from '../lib/report/ledger.ts';
import type { Outcome } from '../lib/report/records.ts';
import type { Received } from '../lib/wire/channel.ts';
import type { Security } from '../lib/wire/credentials.ts';
import { checkAccept } from '../lib/wire/handshake.ts';
import type { Link } from '../lib/wire/link.ts';
import type { Accept, Closed } from '../lib/wire/messages.ts';

import { openControlLink } from './control-link.ts';
import { suspensionCosts } from './costs.ts';
import { dialControl } from './dial.ts';
import { SourceHandover } from './handover.ts';
import { waysOf } from './page-ways.ts';
import type { Rounds } from './rounds.ts';
import { Suspension } from './suspension.ts';
import { Tracker } from './tracker.ts';

/** How long the destination may take for its last word, ms; after that it is asked in the background. */
const CLOSED_TIMEOUT_MS = 5000;
/** Longest wait for an acknowledgement, in peer time limits: congestion is not silence. */
const STALL_FACTOR = 6;
/** Peer time limits until a committed migration that gets no answer is told to need a person. */
const PATIENCE_FACTOR = 4;
/** Accept's word for how memory is filled, for people. */
const PLACEMENTS: Readonly<Record<string, string>> = {
  direct: 'direct placement: pages are written into the memory that the guest will have',
  stream: "stream placement: pages reach the guest's memory through its hypervisor",
};
/** Bytes of device state in one frame. */
const DEVICE_STATE_PART = 1 << 20;

export interface SessionContext {
  readonly channels: number;
  readonly peerTimeoutMs: number;
  readonly security: Security;
  readonly connectTimeoutMs: number;
  readonly reconnectTimeoutMs: number;
  readonly journal: Journal;
  /** The guest by the handle that it had, once the session has let go of it. */
  readonly attach: (name: string, handle: string) => Promise<GuestCopy | undefined>;
  /** What the operator wants done at that moment. */
  readonly hook: (moment: Moment, session: SendSession) => Promise<void>;
  /** Finishes the handover on connections of its own; resolves when nothing is open any more. */
  readonly settle: (session: SendSession) => Promise<void>;
  readonly ledger: (id: string) => LedgerWriter;
  readonly onChange: (session: SendSession) => void;
  readonly log: (level: 'info' | 'warn' | 'error', text: string, session: SendSession) => void;
}

/**
 * One migration as its source sees it: an ordered list of phases with one failure path. Whatever
 * goes wrong before commit, the guest runs on here.
 */
export class SendSession {
  readonly id = randomBytes(8).toString('hex');
  readonly request: MigrationRequest;
  readonly steering: Steering;
  readonly #context: SessionContext;
  readonly #guest: SourceGuest;
  readonly #layout: GuestLayout;
  readonly #tracker: Tracker;
  readonly handover: SourceHandover;
  readonly #cancel = new AbortController();
  /** Aborts when nothing is wanted of the destination any more. */
  readonly #over = new AbortController();
  /** Rejects when the handover has ended without the guest having moved. */
  readonly #ended = Promise.withResolvers<never>();
  readonly #accept = Promise.withResolvers<Accept>();
  readonly #running = Promise.withResolvers<void>();
  readonly #closed = Promise.withResolvers<Closed | undefined>();
  #control: Link | undefined;
  #pool: SendPool | undefined;
  #policy: OpenPolicy | undefined;
  #rounds: Rounds | undefined;
  #suspension: Suspension | undefined;
  #decision: PrecopyResult | undefined;
  #failure: GodwitError | undefined;
  #hash = new PageHash(randomBytes(8).readBigUInt64LE());
  #verifyRate = 0;
  #peerJournalMs = 0;
  #secret: Uint8Array = new Uint8Array(0);
  #committing = false;
  #released = false;
  /** Found again, for what the handover still did to it. */
  #again: GuestCopy | undefined;
  #compression: MigrationRequest['compression'] = 'off';

  /** Takes over the guest, which is closed at the end of `run`. @throws GodwitError bad-option */
  constructor(request: MigrationRequest, guest: SourceGuest, context: SessionContext) {
    this.request = request;
    this.steering = new Steering(request.policy, policyLimits(request.policy, request.limits));
    this.#context = context;
    this.#guest = guest;
    this.#layout = new GuestLayout(guest.description.regions);
    this.#tracker = new Tracker({
      id: this.id,
      request,
      hypervisor: guest.description.hypervisor,
      totalPages: this.#layout.totalPages,
      channels: request.channels ?? context.channels,
      patienceMs: context.peerTimeoutMs * PATIENCE_FACTOR,
      steering: this.steering,
      ledger: context.ledger(this.id),
      onChange: () => context.onChange(this),
    });
    this.handover = this.#newHandover();
    for (const { promise } of [this.#ended, this.#accept, this.#running]) promise.catch(() => {});
  }

  /** The whole migration; never rejects: how it ended is in the view and the ledger. */
  async run(): Promise<void> {
    try {
      await this.#openJournal();
      this.#guest.onDeath((error) => this.#abort(asGodwitError(error)));
      this.#policy = await openPolicy(this.request.policy, this.request.policyModule);
      await this.#connect();
      await this.#offer();
      this.#decision = await this.#precopy();
      await this.#stopAndCopy(this.#decision);
      await this.#handOver();
      this.#finish('completed', undefined);
    } catch (thrown) {
      const error = this.#failure ?? asGodwitError(thrown);
      if (error.code === 'internal') this.#log('error', (error.cause as Error)?.stack ?? '');
      await this.#unwind(error);
    } finally {
      await this.#letGo();
    }
  }

  view(): MigrationView {
    return this.#tracker.view(this.#pool?.totals(), this.#rounds);
  }

  /** True until the guest was given away. */
  get cancellable(): boolean {
    const { name } = this.handover.state;
    return name === 'precopy' || name === 'suspended';
  }

  /** Ends the migration; the guest runs on here. @throws GodwitError too-late after commit */
  cancel(error = new GodwitError('cancelled', 'the migration was cancelled')): void {
    if (this.#tracker.phase === 'ended')
      throw new GodwitError('too-late', `migration ${this.id} has ended`);
    if (!this.cancellable)
      throw new GodwitError('too-late', 'the guest has been handed over to the destination');
    this.#abort(error);
  }

  /** Stop-and-copy as soon as possible. @throws GodwitError too-late */
  cutover(): void {
    this.#mustPrecopy();
    this.steering.cutover();
    this.#tracker.note('the operator asked for the cutover');
  }

  /** Changes limits in flight. @throws GodwitError bad-option, too-late */
  change({ bandwidth, ...limits }: LimitsPatch): void {
    this.#mustPrecopy();
    this.steering.change(limits);
    if (bandwidth !== undefined) {
      this.#tracker.bandwidth = bandwidth ?? undefined;
      this.#pool?.setBandwidth(bandwidth ?? undefined);
    }
    this.#tracker.limitsChanged();
  }

  get host(): string {
    return this.request.host;
  }

  get port(): number {
    return this.request.port;
  }

  /** What binds connections to this migration; empty until the receiver has accepted it. */
  get secret(): Uint8Array {
    return this.#secret;
  }

  /** The handover needs the guest no more, or not for the time being. */
  close(): void {
    this.#again?.close();
    this.#again = undefined;
  }

  /** What the handover waits for, when the destination cannot be asked. */
  waiting(reason: GodwitError | undefined): void {
    this.#tracker.waiting(reason);
  }

  // ---- phases ------------------------------------------------------------

  /** Durable before anything is asked of the guest or the peer. */
  async #openJournal(): Promise<void> {
    const { journal } = this.#context;
    const { name: state, epoch } = this.handover.state;
    const { name: guest, hypervisor } = this.#guest.description;
    const { host, port } = this.request;
    const peer = formatAddress(host, port);
    const { handle } = this.#guest;
    await journal.append({ migration: this.id, state, epoch, guest, hypervisor, handle, peer });
  }

  async #connect(): Promise<void> {
    const opening = openControlLink({
      dial: () => this.#dial(),
      migration: this.id,
      secret: () => this.#secret,
      reconnectTimeoutMs: this.#context.reconnectTimeoutMs,
      signal: this.#over.signal,
      onMessage: (received) => this.#receive(received),
      mayRejoin: () => this.#mayRejoin,
      onLost: (error) => this.#connectionLost(error),
      onBack: () => this.#connectionBack(),
      onClose: (error) => this.#lost(error),
    });
    // Given up while connecting: whoever connects late is sent away again.
    opening.then(
      ({ link }) => this.#tracker.phase === 'ended' && link.close(),
      () => {},
    );
    const { link, welcome } = await this.#or(opening);
    this.#control = link;
    this.handover.speakThrough(this.#control);
    this.#tracker.channels = welcome.limits.channels;
    this.#tracker.window = welcome.limits.window;
    this.#compression = welcome.features.includes('zstd') ? this.request.compression : 'off';
    if (welcome.limits.batchPayload < CHUNK_SIZE)
      throw new GodwitError(
        'bad-message',
        `the receiver takes batches of ${welcome.limits.batchPayload} bytes; a chunk needs ${CHUNK_SIZE}`,
      );
  }

  #dial() {
    const { host, port } = this.request;
    const { connectTimeoutMs, peerTimeoutMs, security } = this.#context;
    const channels = this.request.channels ?? this.#context.channels;
    return dialControl({ host, port, security, channels, peerTimeoutMs, connectTimeoutMs });
  }

  async #offer(): Promise<void> {
    const { name, hypervisor, deviceModel, regions } = this.#guest.description;
    const { channels, window } = this.#tracker;
    this.#control!.send('GuestOffer', {
      migration: this.id,
      epoch: this.handover.state.epoch,
      guest: name,
      hypervisor,
      deviceModel,
      pageSize: PAGE_SIZE,
      regions,
      hashSeed: this.#hash.seed,
      verify: this.request.verify,
    });
    const accept = await this.#or(this.#accept.promise);
    checkAccept(accept, channels);
    this.#verifyRate = accept.verifyRate;
    this.#peerJournalMs = accept.journalMs;
    this.#tracker.note(PLACEMENTS[accept.placement] ?? `placement ${accept.placement}`);
    this.#secret = accept.secret;
    await this.#context.journal.note(this.id, { secret: accept.secret });
    const { pagesOf, openRounds } = waysOf(this.#guest, this.#layout, channels);
    this.#pool = new SendPool({
      host: this.request.host,
      ports: accept.dataPorts,
      security: this.#context.security,
      connectTimeoutMs: this.#context.connectTimeoutMs,
      stallTimeoutMs: this.#context.peerTimeoutMs * STALL_FACTOR,
      reconnectTimeoutMs: this.#context.reconnectTimeoutMs,
      migration: this.id,
      secret: accept.secret,
      hashSeed: this.#hash.seed,
      layout: this.#layout,
      pagesOf,
      window,
      compression: this.#compression,
      bandwidth: this.#tracker.bandwidth,
      onFailure: (error) => this.#abort(error),
    });
    await this.#or(this.#pool.open());
    this.#rounds = openRounds(this.#pool, this.#control!);
  }

  /** Rounds while the guest runs; resolves when the policy says stop-and-copy. */
  async #precopy(): Promise<PrecopyResult> {
    this.#tracker.enter('precopy');
    const rounds = this.#rounds!;
    if (this.#guest.pages === 'pushed')
      this.#guest.onOwnSuspension(() => this.#suspendedByItself());
    await this.#or(rounds.begin());
    const result = await this.#or(
      precopy({
        engine: rounds,
        totalPages: this.#layout.totalPages,
        consult: this.#policy!.consult,
        steering: this.steering,
        clock: { now: () => performance.now(), after },
        startedMs: this.#tracker.startedMs,
        costs: () => this.#costs(),
        cancel: this.#cancel.signal,
        onConsultation: (consultation) => {
          this.#tracker.consulted(consultation);
          if (consultation.stats.when === 'before-round') this.#tellVerdict(consultation);
        },
        onRound: (report) => this.#roundEnded(report, rounds),
      }),
    );
    if (result.outcome === 'abort') throw new GodwitError('policy-abort', result.verdict.reason);
    return result;
  }

  /** A hypervisor that cannot be held back from it: it is stop-and-copy now. */
  #suspendedByItself(): void {
    this.#tracker.note('the hypervisor has suspended the guest by itself');
    this.steering.cutover();
  }

  /** Suspends the guest and sends the rest; resolves when the destination is prepared. */
  async #stopAndCopy(decision: PrecopyResult): Promise<void> {
    await this.#or(this.#control!.ready()); // nobody is suspended for a connection that is not there
    await this.#or(this.#context.hook('preSuspend', this));
    this.#tracker.enter('stop-and-copy');
    this.#log('info', `stop-and-copy: ${decision.verdict.reason}`);
    const limitMs = enforcedSuspendMs(this.steering.limits);
    await this.#or(this.handover.dispatch({ type: 'suspend' }));
    const suspension = this.#suspension!;
    suspension.mark('suspend');
    this.#control!.send('Suspend', { limitMs: Math.round(limitMs ?? 0) });
    await this.#or(this.#rounds!.sync());
    suspension.mark('sync');
    // The hypervisor saves while the last pages are on their way.
    const state = this.#guest.saveDeviceState();
    state.catch(() => {});
    const before = this.#pool!.totals();
    const startedMs = performance.now();
    await this.#or(this.#rounds!.sendLast());
    suspension.mark('pages');
    const digest = this.#pool!.digest();
    digest.catch(() => {});
    this.#tracker.round({
      round: this.#rounds!.round,
      stopAndCopy: true,
      cutShort: false,
      dirtyPages: this.#rounds!.roundPages,
      ms: performance.now() - startedMs,
      totals: totalsSince(this.#pool!.totals(), before),
    });
    this.#sendDeviceState(await this.#or(state));
    suspension.mark('deviceState');
    this.#control!.send('Digest', { channel: await this.#or(digest) });
    suspension.mark('digest');
    await this.#or(this.#running.promise);
  }

  /** The guest runs at the destination and its source copy is gone; only the last word is missing. */
  async #handOver(): Promise<void> {
    this.#recordSuspension('destination', await this.#lastWord());
  }

  async #lastWord(): Promise<Closed | undefined> {
    const callOff = after(CLOSED_TIMEOUT_MS, () => this.#closed.resolve(undefined));
    const closed = await this.#closed.promise;
    callOff();
    return closed;
  }

  /** The one failure path. */
  async #unwind(error: GodwitError): Promise<void> {
    if (this.handover.state.name === 'committed') return; // its end is for the next run to write
    await this.handover.dispatch({ type: 'abort', error }).catch((failure) => {
      this.#log('error', `after the migration failed: ${asGodwitError(failure).message}`);
    });
    const told = this.#control?.connected && this.#secret.length > 0;
    if (told && this.handover.state.name === 'aborted') await this.#lastWord();
    if (this.#suspension !== undefined) {
      const seen = await this.#guest.suspension().catch(() => undefined);
      this.#recordSuspension('source', seen && { guestSuspensionMs: seen.ms, clock: seen.clock });
    }
    this.#finish(outcomeOf(error), error);
  }

  /** Lets go of everything that belongs to the migration and not to the guest. */
  async #letGo(): Promise<void> {
    this.#cancel.abort();
    this.#over.abort();
    this.#suspension?.disarm();
    this.#control?.close();
    await this.#pool?.close();
    await this.#policy?.close();
    await this.#rounds?.end().catch(() => {}); // gone with the guest when it has moved
    this.#released = true;
    this.#guest.close();
    await this.#tracker.closeLedger();
  }

  // ---- handover ----------------------------------------------------------

  #newHandover(): SourceHandover {
    const { journal, attach } = this.#context;
    const { handle } = this.#guest;
    return new SourceHandover({
      migration: this.id,
      start: startSource(1),
      journal,
      guest: async () => {
        if (!this.#released) return this.#guest;
        this.#again ??= await attach(this.request.guest, handle);
        return this.#again;
      },
      hook: (moment) => this.#context.hook(moment, this),
      onSuspend: () => this.#startSuspension(),
      onResume: () => this.#suspension?.end(),
      late: () => (this.#suspension?.late ? this.#missed() : undefined),
      beforeCommit: () => this.#beforeCommit(),
      onReport: (moved, error) => {
        if (moved) this.#running.resolve();
        else this.#ended.reject(error);
      },
      onChange: () => this.#context.onChange(this),
      log: (level, text) => this.#log(level, text),
    });
  }

  #startSuspension(): void {
    const limitMs = enforcedSuspendMs(this.steering.limits);
    const onDeadline = () => this.#abort(this.#missed());
    this.#suspension = new Suspension(limitMs, this.#roundTripMs(), onDeadline);
  }

  /** The last look at the clock: the disk may have taken its time. */
  #beforeCommit(): GodwitError | undefined {
    if (this.#committing) return undefined;
    this.#committing = true;
    if (this.#suspension!.late) return this.#missed();
    this.#suspension!.disarm();
    this.#suspension!.mark('prepare');
    this.#tracker.enter('handover');
    this.#awaitAnswer();
    return undefined;
  }

  /** A destination that hears Commit and says nothing is asked again, on a new connection. */
  #awaitAnswer(): void {
    const silent = new GodwitError('peer-silent', 'the destination does not answer Commit');
    const callOff = after(this.#context.peerTimeoutMs, () => this.#control!.destroy(silent));
    const settled = this.#or(this.#running.promise).catch(() => {});
    settled.then(callOff);
  }

  #receive(received: Received): void {
    const { kind, message } = received;
    switch (kind) {
      case 'Accept':
        return this.#accept.resolve({ ...message, secret: Uint8Array.from(message.secret) });
      case 'Running':
        this.#suspension?.mark('commit');
        this.#suspension?.end();
        break;
      case 'RoundTaken':
        return this.#rounds?.taken(message.round);
      case 'Closed':
        this.#closed.resolve(message);
    }
    if (!this.handover.hear(received))
      throw new GodwitError('bad-message', `the receiver sent ${kind} where it has no place`);
  }

  /** Ends the migration from outside the list of phases. */
  #abort(error: GodwitError): void {
    this.#failed(error);
    this.#cancel.abort();
    this.handover.dispatch({ type: 'abort', error }).catch((thrown) => this.#report(thrown));
  }

  /** The first reason counts: what fails after it fails because of it. */
  #failed(error: GodwitError): void {
    if (this.cancellable) this.#failure ??= error;
  }

  /** Before commit the stream goes on where it was cut; after it, see `Settlement`. */
  get #mayRejoin(): boolean {
    return this.#context.reconnectTimeoutMs > 0 && this.#pool !== undefined && this.cancellable;
  }

  /** The guest runs on while the connections are made again. */
  #connectionLost(error: GodwitError): void {
    this.#log('warn', `the connection was lost: ${error.message}; connecting again`);
    this.#tracker.connectionLost(error);
    this.#pool!.suspect(error.message);
  }

  #connectionBack(): void {
    this.#tracker.connectionBack();
    this.#log('info', 'connected again');
  }

  /** The destination cannot be heard any more on this link. */
  #lost(error: GodwitError | undefined): void {
    this.handover.speakThrough(undefined);
    this.#closed.resolve(undefined);
    const lost = error ?? new GodwitError('peer-closed', 'the connection was closed');
    this.#failed(lost);
    this.handover
      .dispatch({ type: 'lost', error: lost })
      .catch((thrown) => this.#report(thrown))
      .then(() => this.#settleCommitted(lost));
  }

  /** Given away, and nobody says whether it was taken: asks until it is known. */
  async #settleCommitted(lost: GodwitError): Promise<void> {
    if (this.handover.state.name !== 'committed') return;
    this.#log('warn', `committed, then the connection was lost: ${lost.message}; asking again`);
    await this.#context.settle(this);
    if (this.handover.state.name === 'committed') this.#ended.reject(leftToJournal());
  }

  /** What fails while an event is handled, outside any phase that could throw it. */
  #report(thrown: unknown): void {
    this.#log('error', asGodwitError(thrown).message);
  }

  /** A phase's result, unless the handover ends first. */
  #or<T>(work: Promise<T>): Promise<T> {
    return Promise.race([this.#ended.promise, work]);
  }

  // ---- figures -----------------------------------------------------------

  #costs(): SuspensionCosts {
    return suspensionCosts({
      totalPages: this.#layout.totalPages,
      channels: this.#tracker.channels,
      syncMs: this.#rounds?.lastSyncMs ?? 0,
      roundTripMs: this.#roundTripMs(),
      journalMs: this.#context.journal.appendMs,
      peerJournalMs: this.#peerJournalMs,
      verifyRate: this.request.verify ? this.#verifyRate : 0,
    });
  }

  #roundTripMs(): number {
    return this.#control?.rttMs ?? 1;
  }

  /** The deadline passed: what was being done, and how long the rest would have taken. */
  #missed(): GodwitError {
    const { parts } = this.#suspension!;
    const stats = this.#decision?.stats;
    const fixedMs = stats?.estimate?.fixed ?? 0;
    if (parts.pages !== undefined)
      return this.#suspension!.missed('the destination verified memory and loaded state', fixedMs);
    const left = this.#rounds!.progress().pagesRemaining;
    const sendMs = stats?.drainRate ? ((left * PAGE_SIZE) / stats.drainRate) * 1000 : 0;
    const doing = `${left} of ${this.#rounds!.roundPages} last pages were still to be sent`;
    return this.#suspension!.missed(doing, sendMs + fixedMs);
  }

  #sendDeviceState(state: Uint8Array): void {
    const total = state.length;
    const hash = this.#hash.ofLong(state);
    for (let offset = 0; offset < total; offset += DEVICE_STATE_PART) {
      const part = state.subarray(offset, offset + DEVICE_STATE_PART);
      this.#control!.send('DeviceState', { offset, total, hash }, [part]);
    }
  }

  #tellVerdict({ stats, verdict }: { stats: PrecopyStats; verdict: PrecopyResult['verdict'] }) {
    const { action, reason } = verdict;
    const iteration = stats.iteration;
    this.#control!.send('Verdict', { iteration, action, reason: reason.slice(0, 1000) });
  }

  #roundEnded(report: RoundReport, rounds: Rounds): void {
    this.#tracker.round({ ...report, stopAndCopy: false, totals: rounds.roundTotals });
  }

  #recordSuspension(
    side: 'source' | 'destination',
    seen: { guestSuspensionMs: number; clock: string } | undefined,
  ): void {
    const guestMs = seen && seen.guestSuspensionMs >= 0 ? seen.guestSuspensionMs : undefined;
    this.#tracker.suspended({
      side,
      estimate: this.#decision?.stats.estimate,
      limitMs: this.#suspension!.limitMs,
      parts: this.#suspension!.parts,
      agentMs: this.#suspension!.ms,
      guestMs,
      clock:
        guestMs === undefined ? undefined : seen?.clock === 'monotonic' ? 'monotonic' : 'realtime',
    });
  }

  #finish(outcome: Outcome, error: GodwitError | undefined): void {
    this.#tracker.finish(outcome, error, this.#pool?.totals(), this.#rounds?.round ?? 0);
    this.#log(outcome === 'failed' ? 'error' : 'info', `${outcome}: ${error?.message ?? 'moved'}`);
  }

  #mustPrecopy(): void {
    const phase: Phase = this.#tracker.phase;
    if (phase === 'connecting' || phase === 'precopy') return;
    throw new GodwitError('too-late', `migration ${this.id} is past precopy (${phase})`);
  }

  #log(level: 'info' | 'warn' | 'error', text: string): void {
    this.#context.log(level, text, this);
  }
}

function leftToJournal(): GodwitError {
  const text = 'agent-send stopped before the destination said whether it runs the guest';
  return new GodwitError('shutting-down', text);
}

function outcomeOf(error: GodwitError): Outcome {
  switch (error.code) {
    case 'policy-abort':
    case 'suspension-limit':
      return 'aborted';
    case 'cancelled':
      return 'cancelled';
    default:
      return 'failed';
  }
}

function after(ms: number, callback: () => void): () => void {
  const timer = setTimeout(callback, ms);
  return () => clearTimeout(timer);
}
