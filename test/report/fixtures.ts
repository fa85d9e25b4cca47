import type { EncodingCounts } from '../../lib/pages/counters.ts';
import type { PolicyLimits, PrecopyStats, Verdict } from '../../lib/precopy/stats.ts';
import type { SuspensionParts } from '../../lib/precopy/suspension.ts';
import type {
  ConsultationRecord,
  CpuTimes,
  LedgerRecord,
  Outcome,
  PastSuspension,
  RoundRecord,
  StartRecord,
} from '../../lib/report/records.ts';

/** Pages in 1 GiB. */
const GIB_PAGES = 262_144;
const PAGE = 4096;
const MIB = 2 ** 20;

const CONTRACT: PolicyLimits = {
  maxSuspendMs: 300,
  timeoutMs: 120_000,
  prefer: 'workload',
  pauseBelowMs: 150,
  abortAboveMs: 2000,
  maxIters: 5,
  minRemaining: 50,
};

const HOSTS: readonly LedgerRecord[] = [
  {
    ...{ type: 'host', at: 0, side: 'source', name: 'rack2-host07', cpus: 16 },
    ...{ system: 'Linux 6.1.0-18-amd64 x86_64', agent: 'agent-send 0.2.0, Node 26.10.0' },
    hypervisor: 'QEMU 10.0.2',
  },
  {
    ...{ type: 'host', at: 44, side: 'destination', name: 'rack4-host12', cpus: 32 },
    ...{ system: 'Linux 6.12.0 x86_64', agent: 'agent-recv 0.2.0, Node 26.10.0' },
  },
];

const LINK: LedgerRecord = {
  ...{ type: 'link', at: 0, lanes: 2, tls: true, compression: 'auto', roundTripMs: 0.6 },
};

interface Course {
  readonly guest: string;
  readonly totalPages: number;
  /** Guest bytes per second that the receiver takes. */
  readonly drainRate: number;
  /** Pages per second written in a round. */
  readonly dirtyRate: (round: number) => number;
  /** Pages that a round finds dirty however short it is. */
  readonly hotSet?: number;
  /** Pages that the guest can dirty at most. */
  readonly workingSet: number;
  readonly start?: Partial<StartRecord>;
  readonly limits?: Partial<PolicyLimits>;
  /** The ledger tells of hosts, link and processors; those of before did not. */
  readonly hosts?: boolean;
}

/** Writes a ledger as a migration with these rates would; the same course gives the same ledger. */
class Simulation {
  readonly records: LedgerRecord[] = [];
  readonly course: Course;
  at = 0;
  round = 0;
  dirty: number;
  pages = 0;
  wire = 0;
  #drain = 0;
  #rate = -1;
  #syncedAt = 0;
  #seed = 1;
  readonly #encodings = { zero: 0, raw: 0, same: 0, delta: 0, copy: 0 };

  constructor(course: Course) {
    this.course = course;
    this.dirty = course.totalPages;
    this.records.push({
      type: 'start',
      at: 0,
      time: '2026-03-02T09:14:07.000Z',
      id: 'm-7f3a',
      guest: course.guest,
      destination: 'rack4-host12:7340',
      hypervisor: 'simulated',
      policy: 'contract',
      limits: { ...CONTRACT, ...course.limits },
      bandwidth: undefined,
      totalPages: course.totalPages,
      lanes: 2,
      verify: false,
      compression: 'auto',
      ...course.start,
    });
    this.at = 42;
    if (course.hosts) this.records.push(...HOSTS);
  }

  /** As busy as it is at the most, from the beginning on. */
  get cpu(): CpuTimes {
    const heard = this.at > 60;
    return {
      sourceMs: this.at * 1.7,
      destinationMs: heard ? (this.at - 60) * 0.9 : undefined,
    };
  }

  consult(
    when: PrecopyStats['when'],
    verdict: Verdict = { action: 'continue', reason: 'the forecast is above pause-below' },
    sent = 0,
    problem?: string,
  ): void {
    const dirtyCount = when === 'before-round' ? this.dirty : -1;
    const since = (this.#rate * (this.at - this.#syncedAt)) / 1000;
    const pending = when === 'in-round' ? this.dirty - sent : 0;
    const remaining = when === 'before-round' ? this.dirty : pending + since;
    const record: ConsultationRecord = {
      type: 'consultation',
      at: this.at,
      stats: {
        when,
        iteration: when === 'in-round' ? this.round - 1 : this.round,
        totalPages: this.course.totalPages,
        totalWritten: this.pages + sent,
        dirtyCount,
        elapsedMs: this.at,
        wireBytes: this.wire + sent * PAGE * this.#ratio(),
        drainRate: this.#drain,
        dirtyRate: this.#rate,
        estimate: this.estimate(remaining),
        cutoverRequested: false,
      },
      verdict,
      ...(problem === undefined ? {} : { problem }),
      ...(this.course.hosts ? { cpu: this.cpu } : {}),
    };
    this.records.push(record);
  }

  estimate(remaining: number) {
    if (this.#drain === 0 || this.#rate < 0) return undefined;
    const fixed = 14;
    const ms = (remaining * PAGE * 1000) / this.#drain;
    return {
      low: fixed * 0.7 + ms * 0.75,
      expected: fixed + ms,
      high: fixed * 1.6 + ms * 1.4,
      fixed,
      after: 0,
      reserve: 0,
    };
  }

  /** One round with consultations in it, and the sync after it. */
  send(options: { stopAndCopy?: boolean; share?: number; sync?: boolean } = {}): void {
    const { stopAndCopy = false, share = 1, sync = true } = options;
    this.round++;
    const drain = this.course.drainRate * (0.94 + 0.12 * this.#random());
    const sent = Math.round(this.dirty * share);
    const zero = this.round === 1 ? 0.31 : 0.01;
    const ms = Math.max(4, (sent * (1 - zero) * PAGE * 1000) / drain);
    const began = this.at;
    for (let passed = 250; passed < ms && !stopAndCopy; passed += 250) {
      this.at = began + passed;
      this.#drain = drain * (0.9 + 0.2 * this.#random());
      this.consult('in-round', undefined, (sent * passed) / ms);
    }
    this.at = began + ms;
    this.#drain = drain;
    this.#record(stopAndCopy, sent, ms, share < 1, zero);
    if (stopAndCopy) return;
    if (share === 1) this.consult('after-round');
    if (!sync) return;
    const rate = this.course.dirtyRate(this.round);
    const dirtied = (this.course.hotSet ?? 0) + (rate * ms) / 1000;
    this.dirty = Math.round(Math.min(this.course.workingSet, dirtied));
    this.#syncedAt = this.at;
    this.#rate = (this.dirty * 1000) / ms;
  }

  suspend(
    parts: Partial<SuspensionParts>,
    options: {
      side?: 'source' | 'destination';
      extraMs?: number;
      guestMs?: number | undefined;
    } = {},
  ): void {
    const { side = 'destination', extraMs = 0 } = options;
    const agentMs = Object.values(parts).reduce((sum, ms) => sum + ms, 0) + extraMs;
    const decided = this.records.findLast((record) => record.type === 'consultation');
    const { low, expected, high } = decided!.stats.estimate!;
    this.at += agentMs - (parts.pages ?? 0);
    this.records.push({
      type: 'suspension',
      at: this.at,
      side,
      estimate: { low, expected, high },
      limitMs: this.course.limits?.maxSuspendMs ?? CONTRACT.maxSuspendMs,
      parts,
      agentMs,
      guestMs: 'guestMs' in options ? options.guestMs : agentMs + 2.4,
      clock: 'monotonic',
    });
  }

  end(outcome: Outcome, message: string, code?: string, enoughMs?: number): LedgerRecord[] {
    this.at += 30;
    this.records.push({
      type: 'end',
      at: this.at,
      outcome,
      code,
      message,
      enoughMs,
      rounds: this.round,
      pages: this.pages,
      wireBytes: this.wire,
      encodings: { ...this.#encodings },
      ...(this.course.hosts ? { cpu: this.cpu } : {}),
    });
    return this.records;
  }

  note(text: string): void {
    this.records.push({ type: 'note', at: this.at, text });
  }

  #record(stopAndCopy: boolean, sent: number, ms: number, cutShort: boolean, zero: number): void {
    const encodings = this.#encode(sent, zero);
    const wireBytes = Math.round(sent * PAGE * this.#ratio());
    const batches = Math.max(1, Math.round(sent / 256));
    const strong = Math.round(batches * (this.round === 1 ? 0.55 : 0.2));
    const weak = Math.round(batches * 0.3);
    const levels = { off: Math.max(0, batches - weak - strong), '-5': weak, '1': strong };
    const round: RoundRecord = {
      type: 'round',
      at: this.at,
      round: this.round,
      stopAndCopy,
      cutShort,
      dirtyPages: this.dirty,
      sentPages: sent,
      ms,
      wireBytes,
      encodings,
      rawBytes: encodings.raw * PAGE,
      rawWireBytes: Math.round(encodings.raw * PAGE * 0.47),
      levels,
    };
    this.records.push(round);
    this.pages += sent;
    this.wire += wireBytes;
    for (const name of ['zero', 'raw', 'same', 'delta', 'copy'] as const)
      this.#encodings[name] += encodings[name];
  }

  #encode(sent: number, zeroShare: number): EncodingCounts {
    const first = this.round === 1;
    const zero = Math.round(sent * zeroShare);
    const copy = Math.round(sent * (first ? 0.06 : 0.015));
    const same = first ? 0 : Math.round(sent * (0.1 + 0.1 * this.#random()));
    const delta = first ? 0 : Math.round(sent * (0.4 + 0.2 * this.#random()));
    return { zero, copy, same, delta, raw: sent - zero - copy - same - delta };
  }

  #ratio(): number {
    return this.round <= 1 ? 0.31 : 0.24;
  }

  /** Park and Miller's generator: the same numbers on every machine. */
  #random(): number {
    this.#seed = (this.#seed * 16_807) % 2_147_483_647;
    return this.#seed / 2_147_483_647;
  }
}

const PARTS: SuspensionParts = {
  suspend: 1.2,
  sync: 0.6,
  pages: 4.1,
  deviceState: 2.3,
  digest: 3.4,
  prepare: 8.8,
  commit: 2.9,
};

/** 1 GiB that hardly writes: two rounds, then the cutover. */
export function idleGuest(): LedgerRecord[] {
  const run = new Simulation({
    guest: 'web-3',
    totalPages: GIB_PAGES,
    drainRate: 330 * MIB,
    dirtyRate: () => 40,
    workingSet: 300,
  });
  run.consult('before-round');
  run.send();
  run.consult('before-round', {
    action: 'continue',
    reason: 'the guest is becoming idle: one more round',
  });
  run.send();
  const reason = 'the forecast of 14 ms is below pause-below 150 ms and no longer falling';
  run.consult('before-round', { action: 'stop-and-copy', reason });
  run.send({ stopAndCopy: true });
  run.suspend(PARTS);
  return run.end('completed', 'web-3 runs on rack4-host12');
}

/** A small guest on a fast link: one round, and a suspension whose parts are a millisecond or so. */
export function shortMove(): LedgerRecord[] {
  const run = new Simulation({
    ...{ guest: 'sidecar', totalPages: 16_384, drainRate: 900 * MIB, dirtyRate: () => 300 },
    ...{ workingSet: 100, hosts: true },
  });
  run.consult('before-round');
  run.send();
  const reason = 'forecast 14 ms (10 ms to 22 ms) is within the 150 ms of --pause-below';
  run.consult('before-round', { action: 'stop-and-copy', reason });
  run.send({ stopAndCopy: true });
  const parts = { suspend: 0.4, sync: 0.3, pages: 4, deviceState: 0.2, digest: 0.6, prepare: 2.1 };
  run.suspend({ ...parts, commit: 0.9 }, { guestMs: 7.9 });
  return run.end('completed', 'sidecar runs on rack4-host12');
}

/** A busy guest; limits are changed and the cutover is asked for on the way. */
export function busyGuest(): LedgerRecord[] {
  const run = new Simulation({
    guest: 'db-primary',
    totalPages: 4 * GIB_PAGES,
    drainRate: 380 * MIB,
    dirtyRate: (round) =>
      [90_000, 61_000, 52_000, 44_000, 30_000, 14_000, 9_000, 5_000][round - 1] ?? 5_000,
    workingSet: 180_000,
    hotSet: 6000,
    start: { bandwidth: 125e6 },
    hosts: true,
    limits: { maxSuspendMs: 300 },
  });
  run.consult('before-round');
  for (let round = 1; round <= 8; round++) {
    run.send();
    if (round === 3) {
      run.records.push({
        type: 'limits',
        at: run.at,
        limits: { ...CONTRACT, pauseBelowMs: 200, timeoutMs: 180_000 },
        bandwidth: 150e6,
      });
      run.note('bandwidth raised by the operator');
    }
    if (round === 5)
      run.records.push({ type: 'outage', at: run.at - 900, ms: 600, reason: 'nothing was heard' });
    if (round < 8)
      run.consult('before-round', { action: 'continue', reason: 'the forecast is still falling' });
  }
  const reason = 'the forecast of 93 ms is below pause-below 200 ms and at a local minimum';
  run.records.push(LINK);
  run.consult('before-round', { action: 'stop-and-copy', reason });
  run.send({ stopAndCopy: true });
  run.suspend({ ...PARTS, pages: 71, digest: 9, prepare: 21 });
  return run.end('completed', 'db-primary runs on rack4-host12');
}

/** The trace of a busy 6 GiB guest on a fast link whose remaining set does not shrink. */
export function neverConverging(): LedgerRecord[] {
  const run = new Simulation({
    guest: 'render-17',
    totalPages: 6 * GIB_PAGES,
    drainRate: 1946 * MIB,
    dirtyRate: (round) => 560_000 - (round === 11 ? 240_000 : 0),
    workingSet: 1_389_000,
    limits: { timeoutMs: 120_000, abortAboveMs: 4000 },
  });
  run.consult('before-round');
  for (let round = 1; round <= 30; round++) {
    run.send();
    if (round < 30)
      run.consult('before-round', { action: 'continue', reason: 'waiting for a local minimum' });
  }
  const reason =
    'no round of the last 20 came nearer to the limit of 300 ms, so more of them would only cost time';
  run.consult('before-round', { action: 'abort', reason });
  return run.end(
    'aborted',
    'render-17 writes faster than this link can follow; it runs on here',
    'policy-abort',
    3600,
  );
}

/** The link slowed down during stop-and-copy: the deadline passed with pages still to send. */
export function rolledBack(): LedgerRecord[] {
  const run = new Simulation({
    guest: 'mail-2',
    totalPages: 2 * GIB_PAGES,
    drainRate: 110 * MIB,
    dirtyRate: (round) => 9000 / round,
    workingSet: 30_000,
    hotSet: 3000,
  });
  run.consult('before-round');
  for (let round = 1; round <= 4; round++) {
    run.send();
    if (round < 4) run.consult('before-round');
  }
  const reason = 'the forecast is below pause-below 150 ms';
  run.consult('before-round', { action: 'stop-and-copy', reason });
  run.dirty = 5200;
  run.send({ stopAndCopy: true, share: 0.8 });
  run.suspend({ suspend: 1.4, sync: 0.9 }, { side: 'source', extraMs: 286.2 });
  run.note('deadline passed with 1,040 pages to send; rolled back');
  return run.end(
    'aborted',
    'the suspension could not end within 300 ms and was rolled back; mail-2 runs on here',
    'suspension-limit',
    350,
  );
}

export function cancelledInRound1(): LedgerRecord[] {
  const run = new Simulation({
    guest: 'build-agent',
    totalPages: 8 * GIB_PAGES,
    drainRate: 112 * MIB,
    dirtyRate: () => 2000,
    workingSet: 50_000,
  });
  run.consult('before-round');
  run.send({ share: 0.12, sync: false });
  run.note('cancel requested by the operator');
  return run.end('cancelled', 'cancelled by the operator; build-agent runs on here', 'cancelled');
}

export function failedBeforeRound1(): LedgerRecord[] {
  const run = new Simulation({
    guest: 'cache-1',
    totalPages: GIB_PAGES,
    drainRate: 1,
    dirtyRate: () => 0,
    workingSet: 0,
  });
  return run.end(
    'failed',
    'rack4-host12 has 512 MiB free for guests and cache-1 needs 1 GiB',
    'memory-insufficient',
  );
}

/** A ledger without its end: the migration is still running. */
export function unfinished(): LedgerRecord[] {
  const records = busyGuest();
  const fourth = records.findIndex((record) => record.type === 'round' && record.round === 4);
  return records.slice(0, fourth + 4);
}

/** xen's rules with a custom policy's failures thrown in; it ends above its limit. */
export function xenMissed(): LedgerRecord[] {
  const run = new Simulation({
    guest: 'legacy',
    totalPages: GIB_PAGES,
    drainRate: 112 * MIB,
    dirtyRate: () => 6000,
    workingSet: 20_000,
    hotSet: 9000,
    start: { policy: 'xen' },
    limits: { pauseBelowMs: undefined, abortAboveMs: undefined, timeoutMs: undefined },
  });
  run.consult('before-round');
  for (let round = 1; round <= 5; round++) {
    run.send();
    if (round < 5)
      run.consult('before-round', { action: 'continue', reason: 'dirty pages above 50' });
  }
  const verdict: Verdict = { action: 'stop-and-copy', reason: '5 rounds are used up' };
  run.consult('before-round', verdict, 0, 'the module threw: x is not a function');
  run.send({ stopAndCopy: true });
  run.suspend({ ...PARTS, pages: 410 }, { guestMs: undefined });
  return run.end('completed', 'legacy runs on rack4-host12');
}

/** A ledger as it is of a guest that has moved before, and that somebody has checked. */
function known(records: LedgerRecord[], earlier: readonly PastSuspension[]): LedgerRecord[] {
  const foretold: LedgerRecord = {
    ...{ type: 'forecast', at: 0, by: 'check', time: '2026-03-02T09:12:00.000Z', verdict: 'yes' },
    reason: 'forecast 90 ms (60 ms to 140 ms) is within the 300 ms allowed',
    basis: 'link 117.2 MiB/s as measured; dirty pages of 16 GiB as in its profile',
    totalMs: { low: 42_000, expected: 51_000, high: 66_000 },
    suspensionMs: { low: 60, expected: 90, high: 140 },
    ...{ rounds: { low: 5, high: 9 }, enoughMs: 160 },
    unlearned: { totalMs: 47_000, suspensionMs: 100 },
  };
  const at = records.findIndex(({ type }) => type === 'suspension');
  const before = records.slice(1, at);
  const history: LedgerRecord = { type: 'earlier', at: records[at]!.at, suspensions: earlier };
  return [records[0]!, foretold, ...before, history, ...records.slice(at)];
}

function past(day: number, ms: number, over: Partial<PastSuspension> = {}): PastSuspension {
  const forecast = { low: 70, expected: 95, high: 130 };
  const time = new Date(Date.UTC(2026, 1, day, 3, 4)).toISOString();
  return { ...{ time, ms, limitMs: 300, forecast, moved: true }, ...over };
}

/** The twentieth move of a guest: limits that changed, a roll back, moves of which little is known. */
export function oneOfTwenty(): LedgerRecord[] {
  const suspended = [112, 96, 131, 88, 104, 92, 301, 99, 118, 85, 90, 76, 101, 95, 87, 108, 93, 97];
  const earlier = suspended.map((ms, i) => past(i + 1, ms, i === 6 ? { moved: false } : {}));
  const first = past(0, 240, { limitMs: undefined, forecast: undefined });
  const changed = earlier.map((one, i) => (i > 11 ? { ...one, limitMs: 150 } : one));
  return known(busyGuest(), [first, ...changed]);
}

/** The second one, rolled back, after a first that took ten times as long. */
export function oneOfTwo(): LedgerRecord[] {
  return known(rolledBack(), [past(1, 2900, { limitMs: 5000, forecast: undefined })]);
}

export const FIXTURES: Readonly<Record<string, () => LedgerRecord[]>> = {
  idleGuest,
  shortMove,
  busyGuest,
  neverConverging,
  rolledBack,
  cancelledInRound1,
  failedBeforeRound1,
  unfinished,
  xenMissed,
  oneOfTwenty,
  oneOfTwo,
};
