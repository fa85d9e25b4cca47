import { isDeepStrictEqual } from 'node:util';
import type { GodwitError } from '../errors.ts';
import type { DiskProgress } from '../guest/guest.ts';
import type { LaneTotals } from '../pages/counters.ts';
import type { Consulted } from '../precopy/loop.ts';
import type { MoveForecast } from '../precopy/past-moves.ts';
import type { PolicyLimits, Verdict } from '../precopy/stats.ts';
import type { Caps } from '../precopy/suspension-rate.ts';
import type { LedgerWriter } from '../report/ledger.ts';
import type {
  DisksRecord,
  HostRecord,
  LedgerRecord,
  LinkRecord,
  Outcome,
  PastSuspension,
  StartRecord,
  SuspensionRecord,
} from '../report/records.ts';
import { formatDuration } from '../units.ts';
import type { HostFacts } from '../wire/messages.ts';
import { ConsultationNews } from './consultation-news.ts';
import { HoldFacts } from './hold-facts.ts';
import { CpuClock } from './host.ts';
import { type MigrationView, NOTHING_KNOWN, type Phase } from './view.ts';
import { WireRate } from './wire-rate.ts';

/** What is known of a migration from its beginning. */
export interface FactsOptions {
  readonly id: string;
  readonly role: MigrationView['role'];
  readonly guest: string;
  /** The other agent, `host:port`. */
  readonly peer: string;
  /** Undefined where nothing but the journal tells of it. */
  readonly totalPages?: number;
  /** When an earlier run of the agent began it, ms since 1970; undefined: it begins now. */
  readonly begunAt?: number;
  /** The side that sends keeps one. */
  readonly ledger?: Pick<LedgerWriter, 'append' | 'close'>;
  /** Hears each record, also where no ledger takes it. */
  readonly onRecord?: (record: LedgerRecord) => void;
  /** After this long in `waits`, ms, the outcome is `needs-resolve` until there is another. */
  readonly patienceMs?: number;
  readonly onChange: () => void;
}

/** Counts that grow without anybody telling of it. */
export interface Figures {
  readonly totals: LaneTotals;
  /** Of disks, on the wire. */
  readonly diskBytes: number;
  /** The pass that runs or ran last, its pages and how many of them are sent. */
  readonly round: { readonly number: number; readonly pages: number; readonly sent: number };
}

/** A finished pass as the migration reports it. */
export interface FinishedRound {
  readonly round: number;
  readonly stopAndCopy: boolean;
  readonly cutShort: boolean;
  readonly dirtyPages: number;
  readonly ms: number;
  readonly totals: LaneTotals;
}

/** What a handover shows of itself. */
interface Stands {
  readonly state: { readonly name: string };
  readonly standing: string | undefined;
  readonly waiting: GodwitError | undefined;
  readonly decision: string | undefined;
}

type Known = { -readonly [Name in keyof MigrationView]: MigrationView[Name] };

/**
 * What is known about a migration, for people: it is told what happens, keeps the ledger and makes
 * the view, on either side and after a restart of the agent. It watches and decides nothing.
 */
export class Facts {
  /** On the clock of `performance`; before its zero when an earlier run of the agent began it. */
  readonly startedMs: number;
  readonly #options: FactsOptions;
  readonly #known: Known;
  readonly #rate = new WireRate();
  readonly #diskRate = new WireRate();
  readonly #cpu = new CpuClock();
  readonly #hosts = new Set<HostRecord['side']>();
  #figures: (() => Figures) | undefined;
  #outage: { readonly reason: GodwitError; readonly at: number } | undefined;
  #waitingSinceMs: number | undefined;
  readonly #hold = new HoldFacts();
  readonly #news = new ConsultationNews();
  /** What keeps this host from what it owes. */
  #hostWaits: string | undefined;
  #endedMs: number | undefined;

  constructor(options: FactsOptions) {
    const { id, role, guest, peer, totalPages = 0, begunAt } = options;
    const now = Date.now();
    const time = begunAt ?? now;
    this.startedMs = performance.now() - Math.max(0, now - time);
    this.#options = options;
    const phase = begunAt === undefined ? 'connecting' : 'recovery';
    const startedAt = new Date(time).toISOString();
    this.#known = { id, role, guest, peer, phase, startedAt, ...NOTHING_KNOWN, totalPages };
  }

  get phase(): Phase {
    return this.#known.phase;
  }

  /** The newest forecast. */
  get estimate(): MigrationView['estimate'] {
    return this.#known.estimate;
  }

  /** It is held, and was ready when it was last looked at. */
  get heldReady(): boolean {
    return this.#known.hold?.ready ?? false;
  }

  /** Caps in bytes per second. */
  get caps(): Required<Caps> {
    const { bandwidth, suspendBandwidth } = this.#known;
    return { bandwidth, suspendBandwidth };
  }

  /** What was asked for; the first record of the ledger. */
  asked(request: Omit<StartRecord, 'type' | 'at' | 'time' | 'id' | 'guest' | 'totalPages'>): void {
    const { id, guest, totalPages, startedAt } = this.#known;
    const { policy, limits, bandwidth, suspendBandwidth } = request;
    Object.assign(this.#known, { policy, limits, bandwidth, suspendBandwidth });
    const known = { id, guest, totalPages, ...request };
    this.#record({ type: 'start', at: 0, time: startedAt, ...known });
  }

  /** Before anything has begun; the last one is shown. */
  foretold(forecasts: readonly MoveForecast[]): void {
    for (const forecast of forecasts) this.#record({ type: 'forecast', at: 0, ...forecast });
    this.#known.foretold = forecasts.at(-1);
  }

  /** What a host is; told again, its agent's processor time alone is news. */
  host(side: HostRecord['side'], { cpuMs, hypervisor, ...host }: HostFacts): void {
    if (side === 'destination') this.#cpu.heard(cpuMs);
    if (this.#hosts.has(side)) return;
    this.#hosts.add(side);
    this.#record({
      type: 'host',
      at: this.#now(),
      side,
      ...host,
      hypervisor: hypervisor || undefined,
    });
  }

  /** The way to the destination, as it was found. */
  link(link: Omit<LinkRecord, 'type' | 'at'>): void {
    this.#record({ type: 'link', at: this.#now(), ...link });
  }

  /** There is something to count. */
  count(figures: () => Figures): void {
    this.#figures = figures;
  }

  enter(phase: Phase): void {
    this.#tell({ phase, hold: undefined });
  }

  consulted({ stats, limits, verdict, problem }: Consulted): void {
    const { history: _, ...shown } = stats;
    const at = this.#now();
    const hold = this.#hold.consulted(stats, verdict, this.#known.limits, at);
    if (this.#news.isNews(at, hold, stats, verdict))
      this.#record({
        type: 'consultation',
        at,
        stats: shown,
        // They were changed while the policy thought, and the last record is of the new ones.
        limits: isDeepStrictEqual(limits, this.#known.limits) ? undefined : limits,
        verdict,
        problem,
        cpu: this.#cpu.times,
      });
    this.#tell({
      hold,
      verdict,
      estimate: stats.estimate,
      wireRate: this.#rate.add(stats.wireBytes),
      drainRate: stats.drainRate,
      dirtyRate: stats.dirtyRate,
      dirtyPages: stats.dirtyCount,
    });
  }

  /** How far the copies of disks are, and what they have cost on the wire so far. */
  disks(disks: DiskProgress, bytes: number): void {
    this.#tell({ disks, wireRate: this.#diskRate.add(bytes) });
  }

  disksCopied(copied: Omit<DisksRecord, 'type' | 'at'>): void {
    this.#record({ type: 'disks', at: this.#now(), ...copied });
    this.#tell({ disks: undefined, wireRate: 0 });
  }

  /** The other side told what the policy says. */
  heard(verdict: Verdict): void {
    this.#tell({ verdict });
  }

  round(finished: FinishedRound): void {
    if (!finished.stopAndCopy) this.#news.roundEnded();
    const { round, stopAndCopy, cutShort, dirtyPages, ms, totals } = finished;
    const { pages: sentPages, wireBytes, encodings, rawBytes, rawWireBytes, levels } = totals;
    this.#record({
      type: 'round',
      at: this.#now(),
      round,
      stopAndCopy,
      cutShort,
      dirtyPages,
      sentPages,
      ms,
      wireBytes,
      encodings,
      rawBytes,
      rawWireBytes,
      levels,
    });
    this.#options.onChange();
  }

  limitsChanged(limits: PolicyLimits, caps: Required<Caps>): void {
    this.#record({ type: 'limits', at: this.#now(), limits, ...caps });
    this.#tell({ limits, ...caps });
  }

  note(text: string): void {
    this.#record({ type: 'note', at: this.#now(), text });
    this.#options.onChange();
  }

  /** The guest runs on meanwhile. */
  connectionLost(reason: GodwitError): void {
    if (this.#known.outcome !== undefined) return; // nothing more is expected of it
    this.#outage ??= { reason, at: this.#now() };
    this.#options.onChange();
  }

  /** @returns false when nobody had noticed that it was lost */
  connectionBack(): boolean {
    if (this.#outage === undefined) return false;
    const { reason, at } = this.#outage;
    const ms = this.#now() - at;
    this.#record({ type: 'outage', at, ms, reason: reason.message });
    this.#outage = undefined;
    this.#known.reconnects++;
    this.#options.onChange();
    return true;
  }

  /** What is waited for; undefined: nothing. */
  waits(waitsFor: string | undefined): void {
    const { patienceMs = Number.POSITIVE_INFINITY } = this.#options;
    const now = performance.now();
    this.#waitingSinceMs = waitsFor === undefined ? undefined : (this.#waitingSinceMs ?? now);
    if (this.#waitingSinceMs !== undefined && now - this.#waitingSinceMs > patienceMs)
      this.#known.outcome ??= 'needs-resolve';
    this.#tell({ waitsFor });
  }

  /** @param before the suspensions of the guest before this one, where somebody knows them */
  suspended(
    record: Omit<SuspensionRecord, 'type' | 'at'>,
    before?: readonly PastSuspension[],
  ): void {
    const { agentMs, guestMs, clock, limitMs, estimate } = record;
    const forecastMs = estimate?.expected;
    this.#known.suspension = { agentMs, guestMs, clock, forecastMs, limitMs };
    if (before !== undefined)
      this.#record({ type: 'earlier', at: this.#now(), suspensions: before });
    this.#record({ type: 'suspension', at: this.#now(), ...record });
  }

  /** How it went is known: the clock and the figures stand still. */
  ended(outcome: Outcome, error: GodwitError | undefined): void {
    const { code, message, enoughMs } = error ?? {};
    this.#stop({ outcome, code, message, enoughMs });
    const { round: rounds, pagesSent: pages, wireBytes, diskBytes, encodings } = this.#known;
    this.#record({
      type: 'end',
      at: this.#now(),
      outcome,
      code,
      message: message ?? 'the guest runs at its destination',
      enoughMs,
      rounds,
      pages,
      wireBytes,
      encodings,
      diskBytes: diskBytes === 0 ? undefined : diskBytes,
      cpu: this.#cpu.times,
    });
  }

  /** How the right to run the guest stands. */
  stands({ state, standing, waiting, decision }: Stands): void {
    const ownership = state.name === 'ended' ? this.#known.ownership : state.name;
    this.#hostWaits = waiting?.message;
    Object.assign(this.#known, { ownership, guestState: standing, decision });
    // What only a person can tell needs one at once.
    if (waiting?.code === 'outcome-unknown') this.#known.outcome = 'needs-resolve';
    this.#options.onChange();
  }

  /** Nothing is recorded any more. */
  async closeLedger(): Promise<void> {
    await this.#options.ledger?.close();
  }

  /** Everything of the migration is let go; with its copy as it has to be, that is the end. */
  end(rests: boolean): void {
    const phase = rests ? 'ended' : 'recovery';
    if (this.#known.phase === phase) return;
    this.#stop(rests ? { phase, waitsFor: undefined } : { phase });
    this.#options.onChange();
  }

  view(): MigrationView {
    return {
      ...this.#known,
      ...this.#counted(),
      elapsedMs: this.#now(),
      outageMs: this.#outage && this.#now() - this.#outage.at,
      waitsFor: this.#lostFor() ?? this.#hostWaits ?? this.#known.waitsFor,
    };
  }

  #record(record: LedgerRecord): void {
    this.#options.ledger?.append(record);
    this.#options.onRecord?.(record);
  }

  #tell(news: Partial<MigrationView>): void {
    Object.assign(this.#known, news);
    this.#options.onChange();
  }

  #stop(last: Partial<MigrationView>): void {
    this.#known.disks = undefined;
    this.#endedMs ??= performance.now();
    this.#outage = undefined;
    Object.assign(this.#known, this.#counted(), { hold: undefined }, last);
    this.#figures = undefined;
  }

  #counted() {
    if (this.#figures === undefined) return {};
    const { totals, diskBytes, round } = this.#figures();
    const { pages: pagesSent, wireBytes, encodings } = totals;
    const { number, pages: roundPages, sent: roundSent } = round;
    const pages = { pagesSent, wireBytes, encodings };
    return { round: number, roundPages, roundSent, ...pages, diskBytes };
  }

  #lostFor(): string | undefined {
    if (this.#outage === undefined) return undefined;
    const { reason, at } = this.#outage;
    if (this.#known.role === 'receive')
      return `the sender, whose connection was lost: ${reason.message}`;
    return `a connection, lost ${formatDuration(this.#now() - at)} ago: ${reason.message}`;
  }

  #now(): number {
    return (this.#endedMs ?? performance.now()) - this.startedMs;
  }
}
