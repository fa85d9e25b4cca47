import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Experiences, subjectOf } from '../../lib/migration/experiences.ts';
import type { Experience } from '../../lib/precopy/calibration.ts';

let dir: string;
beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-experiences-'));
});
afterEach(() => fs.rmSync(dir, { recursive: true }));

const subject = subjectOf({
  ...{ name: 'vm1', hypervisor: 'qemu', machine: 'q35, and thousands of bytes more' },
  ...{ peer: 'hostb:7070', totalPages: 1000, deviceStateBytes: undefined },
});

function lived(ms: number): Experience {
  return {
    ...subject,
    ...{ time: '2026-01-02T03:04:05.000Z', forecast: undefined, pages: 10, sendMs: 1 },
    ...{ verified: false, parts: { pages: 2 }, ms, moved: true },
  };
}

const file = () => path.join(dir, 'experiences.ndjson');
const lines = () => fs.readFileSync(file(), 'utf8').trimEnd().split('\n');

test('count at once, and after a restart', async () => {
  const first = await Experiences.open(dir);
  expect(first.all).toEqual([]);
  for (const ms of [40, 42, 44]) first.add(lived(ms));
  expect(first.lessonsFor(subject).learned?.afterMs).toBeCloseTo(40);
  await expect.poll(() => fs.existsSync(file()) && lines().length).toBe(3);
  const again = await Experiences.open(dir);
  expect(again.all).toHaveLength(3);
  expect(again.lessonsFor(subject)).toEqual(first.lessonsFor(subject));
});

test('a torn line, and one of another version, are left out', async () => {
  const text = `${JSON.stringify(lived(40))}\n{"ms":3}\nnull\n${JSON.stringify(lived(41)).slice(0, 50)}`;
  fs.writeFileSync(file(), text);
  expect((await Experiences.open(dir)).all).toEqual(
    [lived(40)].map((one) => JSON.parse(JSON.stringify(one))),
  );
});

test('a file that has grown is cut to the newest', async () => {
  fs.writeFileSync(
    file(),
    Array.from({ length: 4001 }, (_, ms) => `${JSON.stringify(lived(ms))}\n`).join(''),
  );
  const { all } = await Experiences.open(dir);
  expect([all.length, all[0]!.ms, all.at(-1)!.ms]).toEqual([2000, 2001, 4000]);
  expect(lines()).toHaveLength(2000);
});

test('what cannot be read or written keeps nobody from a migration', async () => {
  fs.mkdirSync(file());
  const experiences = await Experiences.open(dir);
  experiences.add(lived(40));
  expect(experiences.all).toHaveLength(1);
  await experiences.idle();
});

test('a crash at any byte costs one experience at the most, and nothing that comes after it', async () => {
  const [before, torn, after] = [40, 41, 42].map(lived) as [Experience, Experience, Experience];
  const line = (one: Experience) => `${JSON.stringify(one)}\n`;
  const whole = Buffer.from(line(before) + line(torn));
  for (let cut = 0; cut <= whole.length; cut++) {
    fs.writeFileSync(file(), whole.subarray(0, cut));
    const opened = await Experiences.open(dir);
    const kept = opened.all.map(({ ms }) => ms);
    opened.add(after);
    await opened.idle();
    expect((await Experiences.open(dir)).all.map(({ ms }) => ms)).toEqual([...kept, 42]);
    // Each cut tears one line; its newline is not missed.
    expect(kept.length).toBe(
      [line(before), line(torn)]
        .join('')
        .slice(0, cut + 1)
        .split('\n').length - 1,
    );
  }
});

test('a full disk loses nothing that was written, and nothing at all once there is room', async () => {
  const experiences = await Experiences.open(dir);
  experiences.add(lived(40));
  await experiences.idle();
  const aside = `${file()}.aside`;
  fs.renameSync(file(), aside);
  fs.symlinkSync('/dev/full', file());
  experiences.add(lived(41));
  experiences.add(lived(42));
  await experiences.idle();
  fs.unlinkSync(file());
  fs.renameSync(aside, file());
  fs.appendFileSync(file(), JSON.stringify(lived(41)).slice(0, 60)); // what there was room for
  experiences.add(lived(43));
  await experiences.idle();
  expect(lines()).toHaveLength(5);
  expect((await Experiences.open(dir)).all.map(({ ms }) => ms)).toEqual([40, 41, 42, 43]);
});

test('checks without end neither fill the disk nor push out what moves have taught', async () => {
  const experiences = await Experiences.open(dir);
  experiences.add(lived(40));
  for (let i = 0; i < 4500; i++)
    experiences.add({
      ...{ ...subject, peer: `host${i % 3}:7070`, time: '2026-01-02T03:04:05.000Z' },
      ...{ kind: 'forecast', terms: `${i}`, forecast: undefined, way: undefined },
    });
  await experiences.idle();
  expect(experiences.all.map(({ ms }) => ms)).toEqual([40]);
  expect(lines().length).toBeLessThanOrEqual(4000);
  const again = await Experiences.open(dir);
  expect(again.all.map(({ ms }) => ms)).toEqual([40]);
  expect(again.ways.slice(-3).map(({ peer }) => peer)).toEqual(
    experiences.ways.slice(-3).map(({ peer }) => peer),
  );
});
