import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { MetricsFile } from '../../lib/api/metrics-file.ts';
import { aView, FakeBackend } from './fake-backend.ts';

let agent: FakeBackend;
let file = '';
let open: MetricsFile | undefined;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  agent = new FakeBackend();
  file = path.join(agent.dir, 'agent-send.prom');
});

afterEach(async () => {
  vi.useRealTimers();
  vi.restoreAllMocks();
  await open?.close();
  open = undefined;
  agent.remove();
});

const rounds = () =>
  /^godwit_migration_round\{.*\} (\d+)$/m.exec(fs.readFileSync(file, 'utf8'))?.[1];

/** Time passes, and what it brings is there. */
async function until(passes: () => boolean): Promise<void> {
  vi.advanceTimersByTime(15_000);
  await vi.waitUntil(passes, { timeout: 100_000, interval: 5 });
}

test('it is there at once, renewed, and gone with the agent', async () => {
  open = await MetricsFile.open(file, agent);
  expect(rounds()).toBe('2');
  agent.becomes(aView({ round: 7 }));
  await until(() => rounds() === '7');
  expect(fs.readdirSync(agent.dir)).toEqual(['agent-send.prom']);
  await open.close();
  expect(fs.readdirSync(agent.dir)).toEqual([]);
});

test('what others have put in its way is not written to', async () => {
  const victim = path.join(agent.dir, 'victim');
  fs.writeFileSync(victim, 'as it was');
  for (const name of [`${file}.tmp`, file]) fs.symlinkSync(victim, name);
  open = await MetricsFile.open(file, agent);
  expect(rounds()).toBe('2');
  expect(fs.readFileSync(victim, 'utf8')).toBe('as it was');
});

test('a directory that is gone is told once, and its return', async () => {
  const lines: string[] = [];
  vi.spyOn(process.stderr, 'write').mockImplementation((line) => lines.push(String(line)) > 0);
  const dir = path.join(agent.dir, 'collector');
  fs.mkdirSync(dir);
  open = await MetricsFile.open(path.join(dir, 'a.prom'), agent);
  fs.rmSync(dir, { recursive: true });
  await until(() => lines.length === 2);
  expect(lines[1]).toMatch(/ error metrics cannot be written to .*a\.prom: ENOENT/);
  vi.advanceTimersByTime(60_000);
  fs.mkdirSync(dir);
  await until(() => lines.length > 2);
  expect(lines.slice(2)).toEqual([expect.stringMatching(/ info metrics in .*a\.prom again\n$/)]);
});

test('one that cannot be written in the beginning is refused with what the system says', async () => {
  const opening = MetricsFile.open(path.join(agent.dir, 'none', 'a.prom'), agent);
  await expect(opening).rejects.toMatchObject({
    code: 'metrics-failed',
    cause: expect.objectContaining({ code: 'ENOENT' }),
  });
});
