import { expect, test } from 'vitest';
import { type GuestProfile, steadiness } from '../../lib/precopy/profile.ts';
import { profileProgressText, profileText } from '../../lib/report/profile-text.ts';
import { A_PROFILE } from '../api/fake-backend.ts';

const LARGEST: GuestProfile = {
  ...A_PROFILE,
  ms: 600_000,
  totalPages: 2 ** 32,
  workingSet: [
    { windowMs: 100, pages: 0, high: 1 },
    { windowMs: 200, pages: 2 ** 31, high: 2 ** 32 },
    { windowMs: 600_000, pages: 2 ** 32, high: 2 ** 32 },
  ],
  dirtyRate: 2 ** 36,
};

test('a table, for logs and pipes', () => {
  expect(profileText(A_PROFILE, false)).toBe(`\
guest vm1 (1 GiB), 1.00 s by its dirty log, 2026-01-02T03:04:05.000Z

pages in      median    9 of 10     median
  100 ms         480        520    1.9 MiB
  200 ms         900        980    3.5 MiB
  1.00 s        2600       2600   10.2 MiB

dirty       4790 pages/s (18.7 MiB/s), counted every 100 ms
steady      9 of 10 windows of 100 ms have at most 1.08 × the median
again       13 % of the pages of 100 ms are dirtied in the next 100 ms, too
content     30 % zero pages; zstd takes the others to 48 %
`);
});

test('on a terminal each line has a bar: the median, and lighter what nine of ten do not exceed', () => {
  const lines = profileText(A_PROFILE, true).split('\n');
  const bars = lines.map((line) => line.replace(/[^█░]/g, '')).filter((bar) => bar !== '');
  expect(bars).toEqual(['███████', '████████████░░', '█'.repeat(36)]);
});

test('no line has more than 80 columns, whatever the guest', () => {
  for (const profile of [A_PROFILE, LARGEST, { ...LARGEST, workingSet: [] }])
    for (const bars of [true, false])
      for (const line of profileText(profile, bars).split('\n'))
        expect(line.length, line).toBeLessThanOrEqual(80);
  const progress = { elapsedMs: 599_999, ms: 600_000, windowMs: 12_800, pages: 2 ** 32 };
  expect(profileProgressText(progress).length).toBeLessThan(80);
});

test('what could not be seen is said', () => {
  const { dirtyRate: _, method: __, ...least } = A_PROFILE;
  const unseen = { ...least, zeroShare: undefined, compressedShare: undefined };
  const text = profileText({ ...unseen, workingSet: least.workingSet.slice(0, 1) }, false);
  expect(text).toContain('content     not sampled');
  expect(text).not.toMatch(/steady|again|pages\/s/);
});

test('steadiness is of windows of which there are eight', () => {
  const windows = (...pages: number[]) =>
    pages.map((count, i) => ({ windowMs: 100 * 2 ** i, pages: count, high: 2 * count }));
  const of = (ms: number, ...pages: number[]) =>
    steadiness({ ...A_PROFILE, ms, workingSet: windows(...pages) });
  expect(of(6400, 10, 20, 30, 40, 50, 60, 60)).toEqual({
    windowMs: 800,
    revisited: 0.75,
    spread: 2,
  });
  expect(of(1600, 10, 20, 20, 20)).toEqual({ windowMs: 200, revisited: 1, spread: 2 });
  expect(of(400, 10, 20)).toEqual({ windowMs: 100, revisited: 0, spread: 2 });
  expect(of(400, 10, 25)).toMatchObject({ revisited: 0 }); // sampled pages may say so
  expect(of(400, 10)).toBeUndefined();
  expect(of(400, 0, 0)).toBeUndefined();
});
