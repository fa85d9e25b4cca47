import { expect, test } from 'vitest';
import { checkText } from '../../lib/cli/check-text.ts';
import type { CheckView } from '../../lib/migration/check/view.ts';
import { policyLimits } from '../../lib/precopy/limits.ts';

const VIEW: CheckView = {
  guest: 'vm1',
  destination: 'hostb:7070',
  policy: 'contract',
  limits: policyLimits('contract', {}),
  findings: [
    { side: 'source', about: 'guest', verdict: 'ok', code: '', text: 'vm1 runs' },
    { side: 'destination', about: 'name', verdict: 'no', code: 'guest-exists', text: 'taken' },
    { side: 'destination', about: 'machine', verdict: 'unknown', code: '', text: 'as it\u001b[2J' },
  ],
  way: undefined,
  forecast: {
    verdict: 'yes',
    reason: 'the forecast fits',
    passMs: 8000,
    totalMs: { low: 8123, expected: 9000, high: 11_000 },
    rounds: { low: 3, high: 4 },
    suspensionMs: { low: 40, expected: 50, high: 70 },
    enoughMs: 90,
  },
  expected: 'refused',
};

test('a finding a line with what to do, then the forecast', () => {
  expect(checkText(VIEW)).toBe(
    [
      'ok         source       guest: vm1 runs',
      'no         destination  name: taken (guest-exists): end the guest of that name there',
      'not known  destination  machine: as it\ufffd[2J',
      '',
      'forecast: suspension 40 ms to 70 ms, whole move 8.12 s to 11.00 s in 3 to 4 rounds',
      '          fits --max-suspend-time 300ms: yes; smallest --max-suspend-time that would do: 90ms',
      '          the forecast fits',
      'A move would fail for what is said above.',
      '',
    ].join('\n'),
  );
});

test('what is not known is not made up', () => {
  const { forecast } = VIEW;
  const unknown = { totalMs: undefined, rounds: undefined, enoughMs: undefined };
  const half = { ...forecast!, ...unknown, verdict: 'unknown' as const };
  expect(checkText({ ...VIEW, forecast: half, expected: 'unknown' })).toContain(
    "forecast: suspension 40 ms to 70 ms besides the guest's pages, one pass over its memory 8.00 s",
  );
  expect(checkText({ ...VIEW, forecast: undefined, expected: 'unknown' })).toContain(
    'forecast: not known',
  );
});
