import type { SuspensionParts } from './suspension.ts';

/*
 * What earlier suspensions teach about the next one. Everything here is pure: experiences in, a
 * forecast's parts out; where they are kept is somebody else's.
 */

/** What is about to be suspended. */
export interface Subject {
  readonly guest: string;
  readonly hypervisor: string;
  /** Short for the description of its machine: equal where the devices are. */
  readonly deviceModel: string;
  /** The destination's address. */
  readonly peer: string;
  readonly totalPages: number;
  /** As its hypervisor says; undefined where that cannot be asked. */
  readonly deviceStateBytes: number | undefined;
}

/** One suspension that was lived through, here or by a roll back. */
export interface Experience extends Subject {
  /** ISO 8601. */
  readonly time: string;
  /** The forecast that led to it; undefined when there was none. */
  readonly forecast:
    | { readonly low: number; readonly expected: number; readonly high: number }
    | undefined;
  /** Of the last pass, and what they were to take by the rate of the rounds before, ms. */
  readonly pages: number;
  readonly sendMs: number;
  readonly verified: boolean;
  /** Those that were reached, ms. */
  readonly parts: Partial<SuspensionParts>;
  /** How long the guest stood still: by its own clock, or else by the agents', ms. */
  readonly ms: number;
  /** It ran again at the destination. */
  readonly moved: boolean;
  /** Of it, what a cap of the suspension held the device state up, ms; left out: there was none. */
  readonly cappedMs?: number | undefined;
  /** The limit that was enforced, ms; undefined: none, or of a time when that was not kept. */
  readonly limitMs?: number | undefined;
  /** From the moment at which it was recalled until it ran again here, ms. */
  readonly recallMs?: number | undefined;
}

/** Parts of a suspension but for its pages, each with what it depends on taken into account, ms. */
export interface LearnedParts {
  /** Until nothing executes and the dirty log is harvested. */
  readonly stopMs: number;
  /**
   * From there until the device state is saved. The last pages travel meanwhile, so that the longer
   * one of the two counts.
   */
  readonly saveMs: number;
  /** What is left to be sent of the device state when pages took longer than saving it. */
  readonly tailMs: number;
  /** Digests, loading the state, the source's record: until Commit is said. */
  readonly prepareMs: number;
  /** From there to the guest's first instruction. */
  readonly afterMs: number;
}

/** What the experiences say about a suspension of the subject. */
export interface Lessons {
  /** Of its device state, bytes; undefined when nobody has seen one like it. */
  readonly deviceStateBytes: number | undefined;
  /** What a suspension takes, part by part; undefined while too little is known. */
  readonly learned: LearnedParts | undefined;
  /**
   * Until Commit is said all but sending pages takes at least that long, ms: so long this guest had stood
   * still when it was rolled back. 0 where nothing tells.
   */
  readonly leastMs: number;
  /**
   * What the last pass takes beyond its bytes at the rate of the rounds before, which are long: few
   * pages wait for their answer most of the time.
   */
  readonly send: { readonly offsetMs: number; readonly perPageMs: number };
  /** Factors on the expected value between which nine of ten were. */
  readonly band: { readonly low: number; readonly high: number };
  /** What the slowest took from the word that gives the guest away, and the slowest recall, ms. */
  readonly afterClaimMs: number | undefined;
  readonly recallMs: number | undefined;
}

/** Experiences that count: older ones were of another time. */
const NEWEST = 40;
/** Fewer than this prove nothing. */
export const MIN_EXPERIENCES = 3;
/** Before anybody has measured: a forecast may be that far off. */
const PRIOR_BAND = { low: 0.5, high: 1.8 };
/** Shares of a band that nine of ten are within. */
export const BAND = { low: 0.05, high: 0.95 };
/** What is kept for a promise is what the slowest of forty has needed. */
const CAUTIOUS = 0.975;
/** Device state that is left for less than this when the pages are there was saved before, ms. */
const SAVED_MEANWHILE_MS = 6;
/** A part that shows in a smaller share of them is an accident of those. */
const SHOWS = 0.25;
/** Device states that far apart in size, as a factor, take about the same. */
const ALIKE = 2;
/** Device state goes through two hypervisors and over the wire at least that fast, ms per byte. */
const STATE_SLOPE = { least: 0, prior: 2e-6 };

/** @param all experiences of this host, the oldest first */
export function lessonsFor(subject: Subject, all: readonly Experience[]): Lessons {
  const near = nearest(subject, all);
  const moved = near.filter(({ moved }) => moved);
  const plain = moved.filter(({ verified }) => !verified); // what verifying costs is known by itself
  const deviceStateBytes = subject.deviceStateBytes ?? stateBytes(subject, all);
  return {
    deviceStateBytes,
    learned: plain.length < MIN_EXPERIENCES ? undefined : learnedParts(plain, deviceStateBytes),
    leastMs: leastMs(subject, all),
    send: sendLine(near),
    band: bandOf(moved),
    afterClaimMs: cautious(moved.map(afterClaim)),
    recallMs: cautious(near.flatMap(({ recallMs }) => recallMs ?? [])),
  };
}

/** The likest ones that there are enough of: this guest's, this peer's, this hypervisor's; the newest of them. */
export function nearest<One extends Subject>(
  subject: Subject,
  all: readonly One[],
): readonly One[] {
  const same = (...fields: (keyof Subject)[]) =>
    all.filter((one) => fields.every((field) => one[field] === subject[field])).slice(-NEWEST);
  const circles = [
    same('guest', 'hypervisor', 'peer'),
    same('hypervisor', 'deviceModel', 'peer'),
    same('hypervisor', 'peer'),
    same('hypervisor'),
  ];
  return circles.find((circle) => circle.length >= MIN_EXPERIENCES) ?? circles.at(-1)!;
}

/** Of this guest the last time, else what is usual for its kind of machine. */
function stateBytes(subject: Subject, all: readonly Experience[]): number | undefined {
  const known = all.filter(
    ({ hypervisor, deviceStateBytes }) =>
      hypervisor === subject.hypervisor && deviceStateBytes !== undefined,
  );
  const own = known.findLast(({ guest }) => guest === subject.guest);
  if (own !== undefined) return own.deviceStateBytes;
  const alike = known.filter(({ deviceModel }) => deviceModel === subject.deviceModel);
  return alike.length === 0
    ? undefined
    : quantile(
        alike.slice(-NEWEST).map(({ deviceStateBytes }) => deviceStateBytes!),
        0.5,
      );
}

function learnedParts(moved: readonly Experience[], bytes = 0): LearnedParts {
  const alike = moved.filter(
    ({ deviceStateBytes = 0 }) =>
      deviceStateBytes <= bytes * ALIKE && bytes <= deviceStateBytes * ALIKE,
  );
  const some = alike.length < MIN_EXPERIENCES ? moved : alike;
  const left = ({ parts }: Experience) => parts.deviceState ?? 0;
  const tailMs = usual(some.map(left).filter((ms) => ms <= SAVED_MEANWHILE_MS));
  // Where pages took longer than saving, how long that took does not show.
  const saved = some.filter((one) => left(one) > SAVED_MEANWHILE_MS);
  const of = (those: readonly Experience[], ms: (one: Experience) => number) =>
    some === alike ? usual(those.map(ms)) : overBytes(those, ms, bytes);
  return {
    stopMs: usual(moved.map(({ parts }) => (parts.suspend ?? 0) + (parts.sync ?? 0))),
    saveMs: of(saved.length < some.length * SHOWS ? [] : saved, (one) =>
      Math.max(0, (one.parts.pages ?? 0) + left(one) - (one.cappedMs ?? 0)),
    ),
    tailMs,
    prepareMs: of(some, ({ parts }) => (parts.digest ?? 0) + (parts.prepare ?? 0)),
    afterMs: Math.max(0, usual(moved.map(afterClaim))),
  };
}

/** A part that grows with the device state, for so many bytes of it. 0 of none. */
function overBytes(
  some: readonly Experience[],
  ms: (one: Experience) => number,
  bytes: number,
): number {
  if (some.length === 0) return 0;
  const points = some.map((one) => ({ x: one.deviceStateBytes ?? 0, y: ms(one) }));
  const { at0, slope } = lineThrough(points, STATE_SLOPE.prior);
  return Math.max(0, at0 + Math.max(STATE_SLOPE.least, slope) * bytes);
}

/** The middle one, or between the two middle ones; 0 of none. */
function usual(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length === 0 ? 0 : (sorted[half]! + sorted[sorted.length - 1 - half]!) / 2;
}

/** Roll backs tell of a guest that has never moved there; of one that has, its moves tell more. */
function leastMs({ guest, hypervisor, peer }: Subject, all: readonly Experience[]): number {
  const own = all.filter(
    (one) => one.guest === guest && one.hypervisor === hypervisor && one.peer === peer,
  );
  if (own.some(({ moved }) => moved)) return 0;
  const stood = own.flatMap(({ ms, recallMs = 0, parts: { pages } }) =>
    pages === undefined ? [] : [ms - recallMs - pages],
  );
  return Math.max(0, ...stood.slice(-NEWEST));
}

function sendLine(near: readonly Experience[]): Lessons['send'] {
  const points = near.flatMap(({ pages, sendMs, parts }) =>
    parts.pages === undefined ? [] : [{ x: pages, y: parts.pages - sendMs }],
  );
  if (points.length < MIN_EXPERIENCES) return { offsetMs: 0, perPageMs: 0 };
  const { at0, slope } = lineThrough(points, 0);
  return { offsetMs: Math.max(0, at0), perPageMs: slope };
}

/** The spread of what came over what was expected; as wide as without any for as long as there are few. */
function bandOf(moved: readonly Experience[]): Lessons['band'] {
  const ratios = moved.flatMap(({ ms, forecast }) => (forecast ? [ms / forecast.expected] : []));
  const all = [...ratios, PRIOR_BAND.low, PRIOR_BAND.high];
  return {
    low: Math.min(1, quantile(all, BAND.low)),
    high: Math.max(1, quantile(all, BAND.high)),
  };
}

function afterClaim({ ms, parts }: Experience): number {
  const { suspend = 0, sync = 0, pages = 0, deviceState = 0, digest = 0, prepare = 0 } = parts;
  return ms - (suspend + sync + pages + deviceState + digest + prepare);
}

function cautious(values: readonly number[]): number | undefined {
  return values.length < MIN_EXPERIENCES ? undefined : Math.max(0, quantile(values, CAUTIOUS));
}

/**
 * The line that half of the points are above, whatever a few of them are (Theil and Sen): the median
 * slope between two points, and the median of what is left at 0.
 * @param prior slope where the points say nothing about it
 */
export function lineThrough(
  points: readonly { readonly x: number; readonly y: number }[],
  prior: number,
): { readonly at0: number; readonly slope: number } {
  const xs = points.map(({ x }) => x);
  const reach = Math.max(...xs) - Math.min(...xs);
  const slopes = points.flatMap((a, i) =>
    points.slice(i + 1).flatMap((b) => {
      const dx = b.x - a.x;
      return Math.abs(dx) < reach / 10 || dx === 0 ? [] : [(b.y - a.y) / dx];
    }),
  );
  const slope = slopes.length === 0 ? prior : quantile(slopes, 0.5);
  const at0 = quantile(
    points.map(({ x, y }) => y - slope * x),
    0.5,
  );
  return { at0, slope };
}

/** The value below which that share of them lies, the higher one between two; NaN of none. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}
