import { describe, expect, test } from 'vitest';
import type { Subject } from '../../lib/precopy/calibration.ts';
import { type Forecast, TYPICAL_LANES } from '../../lib/precopy/forecast.ts';
import { policyLimits } from '../../lib/precopy/limits.ts';
import {
  type Foretold,
  type KnownWay,
  laneRatesOf,
  learned,
  moveLessonsFor,
  type PastMove,
  seenOf,
  setupOf,
  type WaitingForecast,
  wayTo,
} from '../../lib/precopy/past-moves.ts';
import { foretoldRecords } from '../../lib/precopy/track-record.ts';

const subject: Subject = {
  ...{ guest: 'vm1', hypervisor: 'qemu', deviceModel: 'm', peer: 'hostb:7070' },
  ...{ totalPages: 1000, deviceStateBytes: undefined },
};
const time = '2026-01-02T03:04:05.000Z';
const WAY: KnownWay = {
  ...{ rate: 100e6, spread: 0.1, lanes: 2, compresses: true, roundTripMs: 1 },
  ...{ peerJournalMs: 2, verifyRate: 0, cap: undefined },
};

function told(by: Foretold['by'], totalMs: number, suspensionMs: number): Foretold {
  const likely = (expected: number) => ({ low: expected / 2, expected, high: expected * 2 });
  return {
    ...{ by, verdict: 'yes', totalMs: likely(totalMs), suspensionMs: likely(suspensionMs) },
    unlearned: { totalMs, suspensionMs },
  };
}

function move(over: Partial<PastMove> = {}): PastMove {
  return {
    ...subject,
    ...{ kind: 'move', time, moved: true, givenUp: false, foretold: [told('check', 1000, 100)] },
    ...{ totalMs: 2000, suspensionMs: 80, setupMs: 300, way: WAY, seen: undefined, ...over },
  };
}

function checked(over: Partial<WaitingForecast> = {}): WaitingForecast {
  return { ...subject, kind: 'forecast', time, terms: '', forecast: undefined, way: WAY, ...over };
}

const FORECAST: Forecast = {
  ...{ verdict: 'yes', reason: 'it fits', passMs: 900, rounds: { low: 2, high: 3 }, enoughMs: 150 },
  totalMs: { low: 800, expected: 1000, high: 1500 },
  suspensionMs: { low: 60, expected: 100, high: 140 },
};
const GIVEN_UP = { verdict: 'no', totalMs: undefined, suspensionMs: undefined } as const;
const LIMITS = policyLimits('contract', {});

describe('lessons of moves', () => {
  test('need three, and those that nobody steered', () => {
    const none = { totalMs: [], suspensionMs: [] };
    expect(moveLessonsFor(subject, 'check', [move(), move()])).toEqual(none);
    const steered = move({ totalMs: undefined });
    const three = [move(), steered, move({ totalMs: 3000 }), move({ moved: false })];
    expect(moveLessonsFor(subject, 'check', three)).toEqual({
      ...none,
      suspensionMs: [0.8, 0.8, 0.8],
    });
    expect(moveLessonsFor(subject, 'migrate', [...three, move(), move()])).toEqual(none);
  });

  test('are of this guest, or else of others to the same destination', () => {
    const others = [1, 2, 3].map((i) => move({ guest: `vm${i + 1}`, totalMs: 500 * i }));
    expect(moveLessonsFor(subject, 'check', others).totalMs).toEqual([0.5, 1, 1.5]);
    const own = [1, 2, 3].map(() => move({ totalMs: 4000 }));
    expect(moveLessonsFor(subject, 'check', [...own, ...others]).totalMs).toEqual([4, 4, 4]);
  });

  test('take out what forecasts were off by, and are not applied to what they have corrected', () => {
    const lessons = { totalMs: [2, 2.2, 1.8], suspensionMs: [0.8, 0.8, 0.8] };
    const { totalMs, suspensionMs, verdict } = learned(FORECAST, lessons, LIMITS);
    expect(totalMs!.expected).toBe(2000);
    expect(suspensionMs.expected).toBe(80);
    // As wide as it would have been, while there are few.
    expect([totalMs!.low, totalMs!.high]).toEqual([1600, 3000]);
    expect(verdict).toBe('yes');
    const again = move({ foretold: [{ ...told('check', 1000, 100), totalMs }] });
    expect(moveLessonsFor(subject, 'check', [again, again, again]).totalMs).toEqual([2, 2, 2]);
  });

  test('cast doubt on a move that would not fit as those before it came', () => {
    const longer = learned(FORECAST, { totalMs: [], suspensionMs: [4, 4, 4] }, LIMITS);
    expect(longer).toMatchObject({ verdict: 'perhaps', enoughMs: 600 });
    expect(longer.reason).toMatch(/about 400 ms, longer than the enforced limit; .*it fits/);
    const limits = policyLimits('contract', { timeoutMs: 1500 });
    expect(learned(FORECAST, { totalMs: [2, 2, 2], suspensionMs: [] }, limits).verdict).toBe(
      'perhaps',
    );
    const no = { ...FORECAST, verdict: 'no', totalMs: undefined } as const;
    expect(learned(no, { totalMs: [2, 2, 2], suspensionMs: [4, 4, 4] }, limits)).toBe(no);
  });
});

describe('a way', () => {
  const at = (rate: number, over: Partial<KnownWay> = {}) => ({ ...WAY, rate, ...over });

  test('is what the newest moves found, else checks, and else is not known', () => {
    expect(wayTo('hostb:7070', [], undefined)).toBeUndefined();
    expect(wayTo('hostc:7070', [move()], undefined)).toBeUndefined();
    const checks = [checked({ way: at(50e6) })];
    expect(wayTo('hostb:7070', checks, undefined)).toMatchObject({ by: 'check', count: 1 });
    const all = [...checks, ...[80e6, 100e6, 140e6].map((rate) => move({ way: at(rate) }))];
    const { way, by, count } = wayTo('hostb:7070', all, undefined)!;
    expect([way.rate, by, count]).toEqual([100e6, 'move', 3]);
    expect(way.spread).toBeCloseTo(0.3);
  });

  test('that was capped tells only of moves that are capped as low', () => {
    const capped = [move({ way: at(10e6, { cap: 10e6 }) })];
    expect(wayTo('hostb:7070', capped, undefined)).toBeUndefined();
    expect(wayTo('hostb:7070', capped, 5e6)!.way.rate).toBe(5e6);
    expect(wayTo('hostb:7070', [move()], 5e6)!.way.rate).toBe(5e6);
  });
});

test('lanes are as fast as the newest moves found that no cap held up', () => {
  const content = { guest: 'vm1', time, ms: 100, totalPages: 1000, workingSet: [], zeroShare: 0 };
  const way = (rate: number, cap?: number) => ({ ...WAY, rate, cap, lanes: 2 });
  const plain = (rate: number, cap?: number) =>
    move({ way: way(rate, cap), seen: { ...content, compressedShare: 1 } });
  const zipped = (rate: number, cap?: number) =>
    move({ way: way(rate, cap), seen: { ...content, compressedShare: 0.5 } });
  expect(laneRatesOf(subject, [plain(600e6), plain(640e6), zipped(90e6), move()])).toEqual(
    TYPICAL_LANES,
  );
  const held = [plain(99e6, 100e6), plain(99e6, 100e6), zipped(100e6, 100e6), zipped(95e6, 100e6)];
  expect(laneRatesOf(subject, held)).toEqual(TYPICAL_LANES);
  const free = [plain(600e6), plain(640e6), plain(900e6, 2e9), zipped(80e6, 100e6)];
  const all = [...held, ...free, zipped(90e6, 120e6), zipped(60e6, 100e6)];
  expect(laneRatesOf(subject, all)).toEqual({ plain: 320e6, compressed: 80e6 });
  expect(laneRatesOf({ ...subject, peer: 'hostc:7070' }, all)).toEqual(TYPICAL_LANES);
});

test('a guest that had other memory in its last move is not the one that was seen', () => {
  const seen = { guest: 'vm1', time, ms: 100, totalPages: 1000, workingSet: [] };
  const profile = { ...seen, zeroShare: undefined, compressedShare: undefined };
  expect(seenOf(subject, [move({ seen: profile })])).toBe(profile);
  expect(seenOf({ ...subject, totalPages: 2000 }, [move({ seen: profile })])).toBeUndefined();
  expect(seenOf(subject, [move()])).toBeUndefined();
});

test('what a move takes to its first page is known from the third on', () => {
  expect(setupOf(subject, [move(), move()])).toBeUndefined();
  expect(setupOf(subject, [move({ setupMs: 5000 }), move(), move()])).toBe(300);
});

test('forecasts before moves are judged by what came', () => {
  const all = [
    ...[1000, 1250, 4000].map((totalMs) => move({ totalMs })),
    move({ moved: false, givenUp: true, totalMs: undefined, suspensionMs: undefined }),
    move({ moved: false }), // cancelled: nobody was wrong
    move({ foretold: [{ ...told('migrate', 1, 1), ...GIVEN_UP }] }),
    move({ foretold: [] }),
  ];
  expect(foretoldRecords(all)).toEqual([
    {
      ...{ hypervisor: 'qemu', peer: 'hostb:7070', moved: 3, misjudged: 2 },
      total: { medianError: 0.2, ninthError: 0.75, inside: 2 / 3 },
      suspension: { medianError: 0.25, ninthError: 0.25, inside: 1 },
    },
  ]);
  expect(foretoldRecords([move({ foretold: [] })])).toEqual([]);
});
