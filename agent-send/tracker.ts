import { formatAddress } from '../lib/control/address.ts';
import type { MigrationRequest, MigrationView, Phase } from '../lib/control/view.ts';
import type { GodwitError } from '../lib/errors.ts';
import type { ChannelTotals } from '../lib/pages/counters.ts';
import type { Consultation } from '../lib/precopy/loop.ts';
import type { PrecopyStats } from '../lib/precopy/stats.ts';
import type { Steering } from '../lib/precopy/steering.ts';
import type { LedgerWriter } from '../lib/report/ledger.ts';
import type { EncodingCounts, Outcome, SuspensionRecord } from '../lib/report/records.ts';
import { formatDuration } from '../lib/units.ts';
import type { Rounds } from './rounds.ts';

/** The wire rate shown is the mean over about this time. */
const RATE_WINDOW_MS = 1000;
/** Batches that may be on their way on one channel, unless the receiver wants fewer. */
const DEFAULT_WINDOW = 8;

const NO_ENCODINGS: EncodingCounts = { zero: 0, raw: 0, same: 0, delta: 0, copy: 0 };

export interface TrackerOptions {
  readonly id: string;
  readonly request: MigrationRequest;
  readonly hypervisor: string;
  readonly totalPages: number;
  readonly channels: number;
  /** After this long without an answer to Commit, whoever waits is told, ms; the asking goes on. */
  readonly patienceMs: number;
  readonly steering: Steering;
  readonly ledger: LedgerWriter;
  readonly onChange: () => void;
}

/** A finished pass as the session reports it. */
export interface FinishedRound {
  readonly round: number;
  readonly stopAndCopy: boolean;
  readonly cutShort: boolean;
  readonly dirtyPages: number;
  readonly ms: number;
  readonly totals: ChannelTotals;
}

/**
 * What is known about a migration, for people: keeps the ledger and makes the view. It watches and
 * decides nothing.
 */
export class Tracker {
  readonly startedMs = performance.now();
  channels: number;
  window = DEFAULT_WINDOW;
  bandwidth: number | undefined;
  readonly #options: TrackerOptions;
  readonly #startedAt = new Date().toISOString();
  #phase: Phase = 'connecting';
  #endedMs: number | undefined;
  #last: (Consultation & { readonly stats: PrecopyStats }) | undefined;
  #suspension: MigrationView['suspension'];
  #waiting: { readonly for: string; readonly sinceMs: number } | undefined;
  #outage: { readonly reason: GodwitError; readonly at: number } | undefined;
  #outcome: Outcome | undefined;
  #error: GodwitError | undefined;
  /** Wire bytes over time, for the rate: the oldest entry is about RATE_WINDOW_MS old. */
  readonly #wire: { at: number; bytes: number }[] = [];

  constructor(options: TrackerOptions) {
    this.#options = options;
    this.channels = options.channels;
    this.bandwidth = options.request.bandwidth;
    const { id, request, hypervisor, totalPages, steering, ledger } = options;
    ledger.append({
      type: 'start',
      at: 0,
      time: this.#startedAt,
      id,
      guest: request.guest,
      destination: formatAddress(request.host, request.port),
      hypervisor,
      policy: request.policy,
      limits: steering.limits,
      bandwidth: this.bandwidth,
      totalPages,
      channels: options.channels,
      verify: request.verify,
      compression: request.compression,
    });
  }

  get phase(): Phase {
    return this.#phase;
  }

  enter(phase: Phase): void {
    this.#phase = phase;
    this.#options.onChange();
  }

  consulted(consultation: Consultation & { readonly stats: PrecopyStats }): void {
    this.#last = consultation;
    const { history: _, ...stats } = consultation.stats;
    const { verdict, problem } = consultation;
    const record = { type: 'consultation', at: this.#now(), stats, verdict } as const;
    this.#options.ledger.append(problem === undefined ? record : { ...record, problem });
    const now = performance.now();
    this.#wire.push({ at: now, bytes: stats.wireBytes });
    while (this.#wire.length > 2 && now - this.#wire[1]!.at > RATE_WINDOW_MS) this.#wire.shift();
    this.#options.onChange();
  }

  round({ totals, ...round }: FinishedRound): void {
    this.#options.ledger.append({
      type: 'round',
      at: this.#now(),
      round: round.round,
      stopAndCopy: round.stopAndCopy,
      cutShort: round.cutShort,
      dirtyPages: round.dirtyPages,
      sentPages: totals.pages,
      ms: round.ms,
      wireBytes: totals.wireBytes,
      encodings: totals.encodings,
      rawBytes: totals.rawBytes,
      rawWireBytes: totals.rawWireBytes,
      levels: totals.levels,
    });
    this.#options.onChange();
  }

  limitsChanged(): void {
    const { ledger, steering, onChange } = this.#options;
    const { bandwidth } = this;
    ledger.append({ type: 'limits', at: this.#now(), limits: steering.limits, bandwidth });
    onChange();
  }

  note(text: string): void {
    this.#options.ledger.append({ type: 'note', at: this.#now(), text });
    this.#options.onChange();
  }

  /** The guest runs on meanwhile. */
  connectionLost(reason: GodwitError): void {
    this.#outage ??= { reason, at: this.#now() };
    this.#options.onChange();
  }

  connectionBack(): void {
    const { reason, at } = this.#outage!;
    const ms = this.#now() - at;
    this.#options.ledger.append({ type: 'outage', at, ms, reason: reason.message });
    this.#outage = undefined;
    this.#options.onChange();
  }

  get #waitsFor(): string | undefined {
    if (this.#outage === undefined) return this.#waiting?.for;
    const { reason, at } = this.#outage;
    return `a connection, lost ${formatDuration(this.#now() - at)} ago: ${reason.message}`;
  }

  /** The guest is given away and its destination cannot be asked, for that reason. */
  waiting(reason: GodwitError | undefined): void {
    const sinceMs = this.#waiting?.sinceMs ?? performance.now();
    this.#waiting = reason && {
      for: `the destination's word whether it runs the guest: ${reason.message}`,
      sinceMs,
    };
    const waitedMs = performance.now() - sinceMs;
    if (reason && waitedMs > this.#options.patienceMs) this.#outcome ??= 'needs-resolve';
    this.#options.onChange();
  }

  suspended(record: Omit<SuspensionRecord, 'type' | 'at'>): void {
    const { agentMs, guestMs, clock } = record;
    this.#suspension = { agentMs, guestMs, clock };
    this.#options.ledger.append({ type: 'suspension', at: this.#now(), ...record });
  }

  finish(
    outcome: Outcome,
    error: GodwitError | undefined,
    totals: ChannelTotals | undefined,
    rounds: number,
  ): void {
    this.#outcome = outcome;
    this.#error = error;
    this.#waiting = undefined;
    this.#outage = undefined;
    this.#options.ledger.append({
      type: 'end',
      at: this.#now(),
      outcome,
      code: error?.code,
      message: error?.message ?? 'the guest runs at its destination',
      rounds,
      pages: totals?.pages ?? 0,
      wireBytes: totals?.wireBytes ?? 0,
      encodings: totals?.encodings ?? NO_ENCODINGS,
    });
    this.#endedMs = performance.now();
  }

  /** Ends the record and tells the watchers: from here on nothing changes. */
  async closeLedger(): Promise<void> {
    await this.#options.ledger.close();
    this.#phase = 'ended';
    this.#options.onChange();
  }

  view(totals: ChannelTotals | undefined, rounds: Rounds | undefined): MigrationView {
    const { id, request, totalPages, steering } = this.#options;
    const stats = this.#last?.stats;
    return {
      id,
      role: 'send',
      guest: request.guest,
      peer: formatAddress(request.host, request.port),
      phase: this.#phase,
      startedAt: this.#startedAt,
      elapsedMs: this.#now(),
      totalPages,
      round: rounds?.round ?? 0,
      roundPages: rounds?.roundPages ?? 0,
      roundSent: rounds?.roundTotals.pages ?? 0,
      pagesSent: totals?.pages ?? 0,
      wireBytes: totals?.wireBytes ?? 0,
      wireRate: this.#wireRate(),
      drainRate: stats?.drainRate ?? 0,
      dirtyRate: stats?.dirtyRate ?? -1,
      dirtyPages: stats?.dirtyCount ?? -1,
      estimate: stats?.estimate,
      verdict: this.#last?.verdict,
      policy: request.policy,
      limits: steering.limits,
      bandwidth: this.bandwidth,
      encodings: totals?.encodings ?? NO_ENCODINGS,
      waitsFor: this.#waitsFor,
      outcome: this.#outcome,
      code: this.#error?.code,
      message: this.#error?.message,
      suspension: this.#suspension,
    };
  }

  #now(): number {
    return (this.#endedMs ?? performance.now()) - this.startedMs;
  }

  #wireRate(): number {
    const first = this.#wire[0];
    const last = this.#wire.at(-1);
    if (!first || !last || last.at === first.at) return 0;
    return ((last.bytes - first.bytes) * 1000) / (last.at - first.at);
  }
}
