import { expect, test } from 'vitest';
import type { Experience } from '../../lib/precopy/calibration.ts';
import { trackRecords } from '../../lib/precopy/track-record.ts';

function lived(over: Partial<Experience> = {}): Experience {
  return {
    ...{ guest: 'vm1', hypervisor: 'qemu', deviceModel: 'm', peer: 'hostb:7070' },
    ...{ totalPages: 1000, deviceStateBytes: undefined, time: '2026-01-02T03:04:05.000Z' },
    ...{ forecast: { low: 80, expected: 100, high: 130 }, pages: 10, sendMs: 10, verified: false },
    ...{ parts: {}, ms: 100, moved: true, ...over },
  };
}

test('forecasts are judged by what came, of each hypervisor and destination', () => {
  const all = [
    ...[100, 125, 160, 100, 80].map((ms) => lived({ ms })),
    lived({ moved: false, ms: 300 }),
    lived({ forecast: undefined }),
    lived({ peer: 'hostc:7070', ms: 50 }),
  ];
  expect(trackRecords(all)).toEqual([
    {
      ...{ hypervisor: 'qemu', peer: 'hostb:7070', moved: 5, rolledBack: 1 },
      ...{ medianError: 0.2, ninthError: 0.375, inside: 0.8 },
    },
    {
      ...{ hypervisor: 'qemu', peer: 'hostc:7070', moved: 1, rolledBack: 0 },
      ...{ medianError: 1, ninthError: 1, inside: 0 },
    },
  ]);
});

test('nothing is said of nothing', () => {
  expect(trackRecords([])).toEqual([]);
  expect(trackRecords([lived({ moved: false })])).toMatchObject([
    { moved: 0, rolledBack: 1, medianError: undefined, inside: undefined },
  ]);
});
