import fc from 'fast-check';
import type { LedgerRecord } from '../../lib/report/records.ts';

/** The agents' clock counts microseconds. */
const time = fc.integer({ min: 0, max: 1e10 }).map((us) => us / 1000);
const pages = fc.integer({ min: 0, max: 2 ** 32 });
const bytes = fc.integer({ min: 0, max: 2 ** 50 });
const rate = fc.oneof(fc.constant(0), fc.double({ min: 0, max: 1e12, noNaN: true }));
/** Forecasts may be anything, infinite included: that is what a stalled link gives. */
const forecast = fc.oneof(time, fc.constant(Number.POSITIVE_INFINITY), fc.constant(0));
const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
const words = fc.oneof(fc.string(), fc.constantFrom('<b>', '&', '"', '\u202e', '\0'));

const limits = fc.record({
  maxSuspendMs: maybe(time),
  timeoutMs: maybe(time),
  prefer: fc.constantFrom('workload' as const, 'completion' as const),
  pauseBelowMs: maybe(time),
  abortAboveMs: maybe(time),
  maxIters: fc.integer({ min: 1, max: 100 }),
  minRemaining: pages,
});

const encodings = fc.record({ zero: pages, raw: pages, same: pages, delta: pages, copy: pages });

const start = fc.record({
  type: fc.constant('start' as const),
  at: fc.constant(0 as const),
  time: fc.constant('2026-03-02T09:14:07.000Z'),
  id: words,
  guest: words,
  destination: words,
  hypervisor: words,
  policy: fc.constantFrom('contract' as const, 'xen' as const, 'custom' as const),
  limits,
  bandwidth: maybe(rate),
  totalPages: pages,
  lanes: fc.integer({ min: 1, max: 64 }),
  verify: fc.boolean(),
  compression: fc.constantFrom('auto' as const, 'off' as const),
});

const estimate = maybe(
  fc.record({ low: forecast, expected: forecast, high: forecast, fixed: forecast }),
);

const cpu = fc.record({ sourceMs: time, destinationMs: maybe(time) });

const consultation = fc.record(
  {
    type: fc.constant('consultation' as const),
    at: time,
    stats: fc.record({
      when: fc.constantFrom(...(['before-round', 'in-round', 'after-round', 'at-rest'] as const)),
      iteration: fc.integer({ min: 0, max: 200 }),
      totalPages: pages,
      totalWritten: pages,
      dirtyCount: fc.oneof(pages, fc.constant(-1)),
      elapsedMs: time,
      wireBytes: bytes,
      drainRate: rate,
      dirtyRate: fc.oneof(rate, fc.constant(-1)),
      estimate,
      cutoverRequested: fc.boolean(),
    }),
    verdict: fc.record({
      action: fc.constantFrom(...(['continue', 'hold', 'stop-and-copy', 'abort'] as const)),
      reason: words,
    }),
    problem: words,
    cpu,
  },
  { requiredKeys: ['type', 'at', 'stats', 'verdict'] },
);

const round = fc.record({
  type: fc.constant('round' as const),
  at: time,
  round: fc.integer({ min: 1, max: 300 }),
  stopAndCopy: fc.boolean(),
  cutShort: fc.boolean(),
  dirtyPages: pages,
  sentPages: pages,
  ms: time,
  wireBytes: bytes,
  encodings,
  rawBytes: bytes,
  rawWireBytes: bytes,
  levels: fc.dictionary(fc.oneof(fc.constantFrom('off', '-5', '1', '3'), words), pages),
});

const suspension = fc.record({
  type: fc.constant('suspension' as const),
  at: time,
  side: fc.constantFrom('source' as const, 'destination' as const),
  estimate: maybe(fc.record({ low: forecast, expected: forecast, high: forecast })),
  limitMs: maybe(time),
  parts: fc.record({ suspend: time, sync: time, pages: time, prepare: time }, { requiredKeys: [] }),
  fromMs: maybe(time),
  agentMs: time,
  guestMs: maybe(time),
  clock: fc.constantFrom('monotonic' as const, 'realtime' as const, undefined),
});

const end = fc.record({
  type: fc.constant('end' as const),
  at: time,
  outcome: fc.constantFrom(
    ...(['completed', 'aborted', 'cancelled', 'failed', 'needs-resolve'] as const),
  ),
  code: maybe(fc.oneof(words, fc.constant('policy-abort'))),
  message: words,
  rounds: fc.integer({ min: 0, max: 300 }),
  pages,
  wireBytes: bytes,
  encodings,
});

const change = fc.record({
  type: fc.constant('limits' as const),
  at: time,
  limits,
  bandwidth: maybe(rate),
});

const outage = fc.record({
  type: fc.constant('outage' as const),
  at: time,
  ms: time,
  reason: words,
});
const host = fc.record({
  ...{ type: fc.constant('host' as const), at: time },
  side: fc.constantFrom('source' as const, 'destination' as const),
  ...{ name: words, cpus: fc.nat(), system: words, agent: words, hypervisor: maybe(words) },
});
const link = fc.record({
  ...{ type: fc.constant('link' as const), at: time, lanes: fc.nat(), tls: fc.boolean() },
  compression: fc.constantFrom('auto' as const, 'off' as const),
  roundTripMs: maybe(time),
});
const note = fc.record({ type: fc.constant('note' as const), at: time, text: words });

/** A ledger with every field in its type but without sense: records in any order, any figures. */
export function randomLedger(): fc.Arbitrary<LedgerRecord[]> {
  const others = fc.array(
    fc.oneof(consultation, round, suspension, change, note, outage, host, link, end),
    {
      maxLength: 40,
    },
  );
  return fc
    .tuple(start, others)
    .map(([first, rest]) => [first, ...rest] as unknown as LedgerRecord[]);
}
