import { PAGE_SIZE } from '../memory/guest-layout.ts';
import { estimateSuspension, type SuspensionCosts } from './estimate.ts';
import { enoughFor, limitFor, longestEnforced } from './fit.ts';
import { Measurements, type Progress } from './measurements.ts';
import { type GuestProfile, pagesWithin } from './profile.ts';
import {
  type Estimate,
  enforcedSuspendMs,
  type Policy,
  type PolicyLimits,
  type PrecopyStats,
  type Verdict,
} from './stats.ts';
import { suspensionRate } from './suspension-rate.ts';

/** The way to the destination as it was measured. */
export interface Way {
  /** Bytes per second on the wire, over all lanes, no faster than the cap. */
  readonly rate: number;
  /** Share of the rate that it may be off, 0.1 for ten per cent. */
  readonly spread: number;
  readonly lanes: number;
  readonly compresses: boolean;
}

/** Guest bytes per second that a lane takes when the link does not hold it up. */
export interface LaneRates {
  readonly plain: number;
  /** Of pages that it compresses. */
  readonly compressed: number;
}

export interface ForecastBasis {
  readonly totalPages: number;
  /** Undefined: how the guest dirties its memory is not known. */
  readonly profile: GuestProfile | undefined;
  /** How many times as fast as the profile has it the guest dirties pages while it is moved. */
  readonly pace: Likely;
  readonly way: Way;
  /** As moves have shown; left out: typical ones. */
  readonly laneRates?: LaneRates;
  readonly costs: SuspensionCosts;
  readonly limits: PolicyLimits;
  /** Undefined: it cannot be asked beforehand. */
  readonly policy: Policy | undefined;
  /** What earlier moves have taken until their first page; undefined: nobody knows. */
  readonly setupMs?: number | undefined;
}

export interface Span {
  readonly low: number;
  readonly high: number;
}

/** With what it is in the likeliest case. */
export interface Likely extends Span {
  readonly expected: number;
}

/** What a move would be like, before it begins. Times are ms. */
export interface Forecast {
  /**
   * yes: it succeeds at the pace that is likeliest; perhaps: only if the guest dirties its memory as
   * slowly as can be expected; no: it is given up; unknown: nobody can tell.
   */
  readonly verdict: 'yes' | 'perhaps' | 'no' | 'unknown';
  /** One sentence. */
  readonly reason: string;
  /** One pass over all memory. */
  readonly passMs: number;
  /** Of a move that succeeds; undefined when none does, or nobody can tell. */
  readonly totalMs: Likely | undefined;
  readonly rounds: Span | undefined;
  /** As far as it is known: without a profile only what does not depend on the guest's pages. */
  readonly suspensionMs: Likely;
  /** The smallest `--max-suspend-time` that would do, also when the guest writes more than it did. */
  readonly enoughMs: number | undefined;
}

/** One way in which a move may go. */
interface Scenario {
  /** The guest does within a window what the profile saw in one that is so many times as long. */
  readonly stretch: number;
  readonly seen: 'pages' | 'high';
  /** Spreads by which the link is faster than measured. */
  readonly spreads: number;
}

/** Stretching the time instead of the pages keeps a hot set as large as it is. */
const slow = ({ low }: Likely): Scenario => ({ stretch: low, seen: 'pages', spreads: 1 });
const likely = ({ expected }: Likely): Scenario => ({
  stretch: expected,
  seen: 'pages',
  spreads: 0,
});
const busy = ({ high }: Likely): Scenario => ({ stretch: high, seen: 'high', spreads: -1 });

/** What a move takes besides its rounds: processes, threads, a hypervisor that starts (docs/measured.md). */
export const SETUP_MS = 600;
/** The loop rests for so long between two syncs at least, and consults so often within a round. */
const MIN_ROUND_MS = 20;
const CONSULT_MS = 200;
/** A round of hours is not looked at more often than this. */
const CONSULTS_OF_ROUND = 500;
/** No policy goes on for longer; who does has not decided. */
const MAX_ROUNDS = 50_000;
/** Rounds after which a dirty set that still shrinks has shrunk enough, and the fall that counts. */
const SHRINKING_ROUNDS = 64;
const SHRINKS = 0.99;
/** The pipeline (docs/measured.md: two lanes, 1041 MB/s), and zstd level 1. */
export const TYPICAL_LANES: LaneRates = { plain: 500e6, compressed: 300e6 };
/** Guest bytes per second of a lane with zero pages. */
export const ZERO_LANE_RATE = 2e9;

/**
 * Forecasts a move: makes its rounds on paper, with the pages that the guest's profile promises, and
 * asks the policy as the loop would. Pure; takes some 100 ms at the most, for a guest that is waited
 * for in vain.
 */
export function forecastMove(basis: ForecastBasis): Forecast {
  const { profile, policy, pace } = basis;
  if (profile === undefined)
    return ofUnknownGuest(basis, 'it is not known how the guest dirties its memory');
  if (policy === undefined)
    return ofUnknownGuest(basis, 'only the policies contract and xen can be asked beforehand');
  const moves = [slow(pace), likely(pace), busy(pace)].map((scenario) =>
    move(basis, profile, policy, scenario),
  );
  const [slowest, expected, busiest] = moves as [Move, Move, Move];
  const done = moves.filter((one) => one.succeeds);
  const told = done.length > 0 ? done : moves;
  const likeliest = told.includes(expected) ? expected : told[0]!;
  return {
    ...verdictOf(pace, slowest, expected, busiest),
    passMs: passMs(basis),
    totalMs:
      done.length > 0 ? { ...spanOf(done.map(({ ms }) => ms)), expected: likeliest.ms } : undefined,
    rounds: done.length > 0 ? spanOf(done.map(({ rounds }) => rounds)) : undefined,
    suspensionMs: {
      low: Math.min(...told.map(({ estimate }) => estimate.low)),
      expected: likeliest.estimate.expected,
      high: Math.max(...told.map(({ estimate }) => estimate.high)),
    },
    enoughMs: enoughMs(basis, profile),
  };
}

/** How one scenario ends. */
interface Move {
  readonly succeeds: boolean;
  readonly verdict: Verdict;
  /** Forecast at the verdict. */
  readonly estimate: Estimate;
  readonly ms: number;
  readonly rounds: number;
}

function move(
  basis: ForecastBasis,
  profile: GuestProfile,
  policy: Policy,
  scenario: Scenario,
): Move {
  const { limits, costs } = basis;
  const paper = new PaperMove(basis, profile, scenario);
  const verdict = paper.run(policy) ?? {
    action: 'abort' as const,
    reason: `the policy does not decide within ${MAX_ROUNDS} rounds`,
  };
  const estimate = paper.estimate;
  const fits = estimate.expected <= longestEnforced(limits, estimate);
  return {
    succeeds: verdict.action === 'stop-and-copy' && fits,
    verdict,
    estimate,
    ms: paper.now + estimate.expected + costs.roundTripMs,
    rounds: paper.round,
  };
}

/** The rounds of a move that nobody makes. */
class PaperMove {
  readonly #basis: ForecastBasis;
  readonly #profile: GuestProfile;
  readonly #scenario: Scenario;
  readonly #measurements: Measurements;
  /** Guest bytes per second, of pages that are not zero and of those that are. */
  readonly #rate: number;
  readonly #zeroRate: number;
  #progress: Progress = { pagesWritten: 0, wireBytes: 0, drainedBytes: 0, pagesRemaining: 0 };
  #dirty: number;
  #asked: PrecopyStats['when'] = 'before-round';
  round = 0;
  now: number;

  constructor(basis: ForecastBasis, profile: GuestProfile, scenario: Scenario) {
    const { totalPages, way } = basis;
    this.#basis = basis;
    this.#profile = profile;
    this.#scenario = scenario;
    this.#dirty = totalPages;
    this.now = basis.setupMs ?? SETUP_MS;
    this.#rate = rateIn(basis, scenario);
    this.#zeroRate = ZERO_LANE_RATE * way.lanes;
    this.#measurements = new Measurements(totalPages, 0, this.now);
  }

  /** Of a suspension that begins where the policy was asked last. */
  get estimate(): Estimate {
    const { costs, way } = this.#basis;
    const dirtyRate = this.#dirtiedIn(MIN_ROUND_MS) * (1000 / MIN_ROUND_MS);
    const perWireByte = this.#rate / way.rate;
    const last = { drainRate: this.#rate, burstRate: 0, perWireByte };
    const drain = { rate: suspensionRate(last, costs.caps ?? {}), spread: way.spread };
    return (
      this.#stats(this.#asked).estimate ?? estimateSuspension(this.#dirty, dirtyRate, drain, costs)
    );
  }

  get dirty(): number {
    return this.#dirty;
  }

  /** Until the policy has decided; undefined when it does not. */
  run(policy: Policy): Verdict | undefined {
    const ask = (when: PrecopyStats['when']) => {
      this.#asked = when;
      const verdict = policy(this.#stats(when), this.#basis.limits);
      return verdict.action === 'continue' ? undefined : verdict;
    };
    while (this.round < MAX_ROUNDS) {
      const verdict = ask('before-round') ?? this.send(() => ask('in-round')) ?? ask('after-round');
      if (verdict !== undefined) return verdict;
      this.sync();
    }
    return undefined;
  }

  /** One pass; a verdict cuts it short. */
  send(ask: () => Verdict | undefined): Verdict | undefined {
    const startedMs = this.now;
    const before = this.#progress;
    const pages = this.#dirty;
    const zero = this.round === 0 ? Math.floor(pages * (this.#profile.zeroShare ?? 0)) : 0;
    const { roundTripMs } = this.#basis.costs;
    const bytesMs = sendMs(pages - zero, this.#rate) + sendMs(zero, this.#zeroRate);
    const ms = bytesMs + roundTripMs;
    const steps = Math.min(CONSULTS_OF_ROUND, Math.ceil(ms / CONSULT_MS));
    this.round++;
    this.#measurements.roundBegins(this.round, this.#at(before, pages, zero, 0), startedMs);
    for (let step = 1; step < steps; step++) {
      this.now = startedMs + (ms * step) / steps;
      this.#progress = this.#at(before, pages, zero, step / steps);
      this.#measurements.sample(this.#progress, this.now);
      const verdict = ask();
      if (verdict !== undefined) return verdict;
    }
    this.now = startedMs + ms;
    this.#progress = this.#at(before, pages, zero, 1);
    this.#measurements.roundEnds(this.#progress, false, this.now);
    this.now = startedMs + Math.max(ms, MIN_ROUND_MS);
    this.#dirty = this.#dirtiedIn(this.now - startedMs);
    return undefined;
  }

  sync(): void {
    this.#measurements.synced(this.#dirty, this.#basis.costs, this.now);
  }

  #at(before: Progress, pages: number, zero: number, share: number): Progress {
    const drained = (pages - zero) * PAGE_SIZE * share;
    return {
      pagesWritten: before.pagesWritten + Math.floor(pages * share),
      drainedBytes: before.drainedBytes + drained,
      wireBytes: before.wireBytes + drained * Math.min(1, this.#basis.way.rate / this.#rate),
      pagesRemaining: Math.ceil(pages * (1 - share)),
    };
  }

  #dirtiedIn(ms: number): number {
    const { stretch, seen } = this.#scenario;
    const { workingSet } = this.#profile;
    return Math.round(pagesWithin(workingSet, seen, ms * stretch, this.#basis.totalPages));
  }

  #stats(when: PrecopyStats['when']): PrecopyStats {
    return this.#measurements.stats(when, this.#progress, this.#basis.costs, false, this.now);
  }
}

/**
 * The best forecast that rounds can reach, with a guest busier than it was seen: a policy that has it
 * for a limit pauses there.
 */
function enoughMs(basis: ForecastBasis, profile: GuestProfile): number | undefined {
  const paper = new PaperMove(basis, profile, busy(basis.pace));
  const latest = basis.limits.timeoutMs ?? Number.POSITIVE_INFINITY;
  let best: number | undefined;
  for (let left = Number.POSITIVE_INFINITY; paper.round < SHRINKING_ROUNDS; left = paper.dirty) {
    paper.send(() => undefined);
    paper.sync();
    const { estimate } = paper;
    const { high } = estimate;
    if (paper.now + high > latest) break;
    const enough = enoughFor(high, estimate);
    best = Math.min(best ?? enough, enough);
    if (paper.dirty > left * SHRINKS) break;
  }
  return best;
}

function verdictOf(
  pace: Likely,
  slowest: Move,
  expected: Move,
  busiest: Move,
): Pick<Forecast, 'verdict' | 'reason'> {
  if (expected.succeeds) {
    const { reason } = expected.verdict;
    const doubt = busiest.succeeds ? '' : `; not if ${atPace(pace.high)}: ${whyNot(busiest)}`;
    return { verdict: 'yes', reason: `${reason}${doubt}` };
  }
  if (!slowest.succeeds) return { verdict: 'no', reason: whyNot(expected) };
  const reason = `not if ${atPace(pace.expected)}, as is to be expected while it is moved: ${whyNot(expected)}`;
  return { verdict: 'perhaps', reason };
}

function atPace(pace: number): string {
  const times = Number(pace.toFixed(1));
  const seen = 'as fast as it was seen to';
  return `the guest dirties its memory ${times === 1 ? seen : `${times} times ${seen}`}`;
}

function whyNot({ verdict, estimate }: Move): string {
  if (verdict.action === 'abort') return verdict.reason;
  const { expected } = estimate;
  const needed = Math.ceil(limitFor(expected, estimate));
  return `the guest would be suspended for about ${Math.round(expected)} ms, longer than the enforced limit has room for: that takes ${needed} ms (${verdict.reason})`;
}

/** Nothing is known of the guest's own part. */
function ofUnknownGuest(basis: ForecastBasis, why: string): Forecast {
  const { costs, limits } = basis;
  const drain = { rate: rateIn(basis, likely(basis.pace)), spread: 0 };
  const estimate = estimateSuspension(0, 0, drain, costs);
  const { low, expected, high } = estimate;
  const enforced = enforcedSuspendMs(limits) ?? Number.POSITIVE_INFINITY;
  const tooDear = `device state, handover and verification alone take ${Math.round(low)} ms, too long for the ${enforced} ms allowed`;
  return {
    ...(low > longestEnforced(limits, estimate)
      ? { verdict: 'no', reason: tooDear }
      : { verdict: 'unknown', reason: why }),
    passMs: passMs(basis),
    totalMs: undefined,
    rounds: undefined,
    suspensionMs: { low, expected, high },
    enoughMs: undefined,
  };
}

function passMs(basis: ForecastBasis): number {
  const { totalPages, profile, way } = basis;
  const zero = totalPages * (profile?.zeroShare ?? 0);
  const zeroMs = sendMs(zero, ZERO_LANE_RATE * way.lanes);
  return sendMs(totalPages - zero, rateIn(basis, likely(basis.pace))) + zeroMs;
}

/** Guest bytes per second, with the link as the scenario has it. */
function rateIn({ way, profile, laneRates }: ForecastBasis, { spreads }: Scenario): number {
  const rate = way.rate * Math.max(0.1, 1 + spreads * way.spread);
  return guestRate({ ...way, rate }, profile?.compressedShare, laneRates);
}

/** Compression is worth it where the link, and not the compressor, is the limit: as lanes choose. */
function guestRate(
  { rate, lanes, compresses }: Way,
  compressedShare = 1,
  laneRates = TYPICAL_LANES,
): number {
  const plain = Math.min(rate, lanes * laneRates.plain);
  if (!compresses) return plain;
  const share = Math.max(0.05, Math.min(1, compressedShare));
  return Math.max(plain, Math.min(rate / share, lanes * laneRates.compressed));
}

function sendMs(pages: number, rate: number): number {
  return ((pages * PAGE_SIZE) / rate) * 1000;
}

function spanOf(values: readonly number[]): Span {
  return { low: Math.min(...values), high: Math.max(...values) };
}
