import { expect, test } from 'vitest';
import { estimateSuspension, fixedCostMs } from '../../lib/precopy/estimate.ts';
import { Measurements } from '../../lib/precopy/measurements.ts';
import { suspensionRate } from '../../lib/precopy/suspension-rate.ts';

const WAY = { drainRate: 40e6, burstRate: 120e6, perWireByte: 2 };

test('without caps the last pages go as those of the rounds, whatever single batches took', () => {
  expect(suspensionRate(WAY, {})).toBe(40e6);
  expect(suspensionRate({ ...WAY, burstRate: 0 }, {})).toBe(40e6);
});

test('a cap of the rounds ends with them: what was seen without it counts, else the cap is assumed', () => {
  expect(suspensionRate(WAY, { bandwidth: 20e6 })).toBe(120e6);
  expect(suspensionRate({ ...WAY, burstRate: 0 }, { bandwidth: 20e6 })).toBe(40e6);
  expect(suspensionRate({ ...WAY, burstRate: 30e6 }, { bandwidth: 20e6 })).toBe(40e6);
});

test('a cap of the suspension is on the wire, where a byte carries as much of the guest as before', () => {
  expect(suspensionRate(WAY, { suspendBandwidth: 5e6 })).toBe(10e6);
  expect(suspensionRate(WAY, { bandwidth: 20e6, suspendBandwidth: 30e6 })).toBe(60e6);
  expect(suspensionRate({ ...WAY, perWireByte: 0 }, { suspendBandwidth: 5e6 })).toBe(5e6);
  expect(suspensionRate(WAY, { suspendBandwidth: 1e9 })).toBe(40e6);
});

const COSTS = {
  ...{ suspendMs: 0, digestMs: 0, roundTripMs: 0, journalMs: 0, loadMs: 0, verifyMs: 0 },
  ...{ resumeMs: 0, afterMs: 0, reserveMs: 0, leastMs: 0 },
  deviceStateBytes: 10e6,
};
const LEARNED = {
  ...{ stopMs: 5, saveMs: 15, tailMs: 0, prepareMs: 5, afterMs: 5 },
  ...{ send: { offsetMs: 0, perPageMs: 0 }, band: { low: 1, high: 1 } },
};

test('device state has to go through a cap of the suspension, also where its cost was learned without', () => {
  expect(fixedCostMs(COSTS, 100e6)).toBe(100);
  expect(fixedCostMs({ ...COSTS, caps: { suspendBandwidth: 10e6 } }, 100e6)).toBe(1000);
  expect(fixedCostMs({ ...COSTS, learned: LEARNED }, 100e6)).toBe(30);
  const caps = { bandwidth: 1e6, suspendBandwidth: 10e6 };
  // It is saved while it travels: the longer one counts.
  expect(fixedCostMs({ ...COSTS, learned: LEARNED, caps }, 100e6)).toBe(1015);
});

test('the forecast of a migration under a cap is that of the way without it', () => {
  const forecast = (burstRate: number | undefined, suspendBandwidth?: number) => {
    const measured = new Measurements(10_000, 0, 0);
    const costs = { ...COSTS, deviceStateBytes: 0, caps: { bandwidth: 10e6, suspendBandwidth } };
    const burst = burstRate === undefined ? {} : { burstRate };
    const begun = { pagesWritten: 0, wireBytes: 0, drainedBytes: 0, pagesRemaining: 10_000 };
    const sent = { pagesWritten: 10_000, wireBytes: 40e6, drainedBytes: 40e6, ...burst };
    const done = { ...sent, pagesRemaining: 0 };
    measured.roundBegins(1, begun, 0);
    measured.roundEnds(done, false, 4000); // 10 MB/s
    measured.synced(1000, costs, 4000);
    return measured.stats('before-round', done, costs, false, 4000);
  };
  const expected = (rate: number) =>
    estimateSuspension(1000, 250, { rate, spread: 0.25 }, { ...COSTS, deviceStateBytes: 0 })
      .expected;
  expect(forecast(undefined)).toMatchObject({ drainRate: 10e6, suspendRate: 10e6 });
  expect(forecast(undefined).estimate!.expected).toBeCloseTo(expected(10e6));
  expect(forecast(100e6)).toMatchObject({ drainRate: 10e6, suspendRate: 100e6 });
  expect(forecast(100e6).estimate!.expected).toBeCloseTo(expected(100e6));
  expect(forecast(100e6, 20e6)).toMatchObject({ drainRate: 10e6, suspendRate: 20e6 });
});
