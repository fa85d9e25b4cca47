import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Admission } from '../../lib/daemon/admission.ts';
import { rateOf } from '../../lib/migration/check/ballast.ts';
import { newestProfile } from '../../lib/report/profile-file.ts';

describe('the rate of a way', () => {
  const points = (...list: [number, number][]) => list.map(([atMs, bytes]) => ({ atMs, bytes }));

  test('is that of its later half, when it was getting faster', () => {
    const seen = rateOf(points([0, 0], [100, 1000], [150, 5000], [200, 10_000]));
    expect(seen).toMatchObject({ rate: 100_000, bytes: 10_000, ms: 200 });
    expect(seen.spread).toBe(0.5);
  });

  test('is the whole, when all was acknowledged at once', () => {
    expect(rateOf(points([0, 0], [100, 5000]))).toMatchObject({ rate: 50_000, spread: 0.05 });
  });

  test('is never above the cap', () => {
    expect(rateOf(points([0, 0], [100, 5000], [200, 10_000]), 40_000).rate).toBe(40_000);
  });
});

describe('a profile that was kept', () => {
  let dir: string;
  const file = () => path.join(dir, 'profiles', 'vm1.json');
  beforeAll(() => {
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-profiles-'));
    fs.mkdirSync(path.join(dir, 'profiles'));
  });
  afterAll(() => fs.rmSync(dir, { recursive: true }));

  const PROFILE = {
    ...{ guest: 'vm1', time: '2026-01-02T03:04:05.000Z', ms: 60_000, totalPages: 16_384 },
    workingSet: [{ windowMs: 100, pages: 5, high: 9 }],
  };

  test('is read as it was written, and there may be none', () => {
    expect(newestProfile(dir, 'vm1')).toBeUndefined();
    fs.writeFileSync(file(), JSON.stringify({ ...PROFILE, zeroShare: 0.25 }));
    expect(newestProfile(dir, 'vm1')).toEqual({
      ...{ ...PROFILE, zeroShare: 0.25 },
      compressedShare: undefined,
    });
  });

  test.each([
    ['that is no JSON', 'x'],
    ['that is no object', 'null'],
    ['without a working set', { ...PROFILE, workingSet: undefined }],
    ['with a share above 1', { ...PROFILE, zeroShare: 2 }],
    ['with a negative count', { ...PROFILE, totalPages: -1 }],
    [
      'with windows that do not grow',
      { ...PROFILE, workingSet: [...PROFILE.workingSet, ...PROFILE.workingSet] },
    ],
    ['as large as no profile is', { ...PROFILE, more: 'x'.repeat(1 << 17) }],
  ])('%s is none', (_, content) => {
    fs.writeFileSync(file(), typeof content === 'string' ? content : JSON.stringify(content));
    expect(() => newestProfile(dir, 'vm1')).toThrow(
      expect.objectContaining({ code: 'ledger-invalid' }),
    );
  });
});

test('checks are admitted two at once, and few of an address in a row', () => {
  const admission = new Admission(8);
  const tooMany = expect.objectContaining({ code: 'too-many' });
  const [leave] = [admission.enterCheck('a'), admission.enterCheck('b')];
  expect(() => admission.enterCheck('c')).toThrow(tooMany);
  leave();
  admission.enterCheck('c')();
  let admitted = 0;
  expect(() => {
    for (; admitted < 1000; admitted++) admission.enterCheck('a')();
  }).toThrow(tooMany);
  admission.enterCheck('d')(); // others are not held back
});
