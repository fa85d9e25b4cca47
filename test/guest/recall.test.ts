import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, expect, test } from 'vitest';
import type { RecallPlace } from '../../lib/guest/recall/recall-protocol.ts';
import { Recalls } from '../../lib/guest/recall/recalls.ts';
import { Turn } from '../../lib/guest/recall/turn.ts';
import { GuestDir, type TestGuest, until } from './simulated/fixture.ts';

const guests = new GuestDir();
const recalls = new Recalls();
let count = 0;
afterEach(() => guests.dispose());
afterAll(() => recalls.stop());

async function booted(): Promise<{ guest: TestGuest; place: RecallPlace }> {
  const name = `vm${++count}`;
  const guest = await guests.boot(name);
  const { socket, pid } = guest.vmm;
  return { guest, place: { kind: 'simulated', socket, guest: name, pid } };
}

async function statusOf({ client }: TestGuest): Promise<string> {
  return (await client.execute<{ status: string }>('query-status')).status;
}

test('a guest runs again when its time is up, whatever the main thread does', async () => {
  const { guest, place } = await booted();
  const recall = await recalls.open(place);
  await guest.client.execute('stop', { by: 'agent' });
  const recalled = recall.arm(100, new Turn());
  await sleep(20); // the thread has been told
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2000);
  expect(await recalled).toMatchObject({ done: true, trouble: undefined });
  const { lastSuspension } = await guest.client.execute<{ lastSuspension: { ms: number } }>(
    'query-heartbeat',
  );
  expect(lastSuspension.ms).toBeLessThan(2000);
  recall.close();
});

test.skipIf(process.getuid!() !== 0)('its thread comes before others', async () => {
  const { place } = await booted();
  const recall = await recalls.open(place);
  const nice = fs.readdirSync('/proc/self/task').map((thread) => {
    const stat = fs.readFileSync(`/proc/self/task/${thread}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]); // proc(5): the 19th
  });
  expect(nice.filter((one) => one === -20)).toHaveLength(1);
  recall.close();
});

test('not when the handover has taken its turn, nor when the way is closed before', async () => {
  const { guest, place } = await booted();
  await guest.client.execute('stop', { by: 'agent' });
  const turn = new Turn();
  expect(turn.take('handover')).toBe(true);
  const first = await recalls.open(place);
  expect(await first.arm(0, turn)).toEqual({ done: false });
  expect(turn.take('handover')).toBe(true); // still
  expect(turn.isRecalled).toBe(false);
  const second = await recalls.open(place);
  const armed = second.arm(3_600_000, new Turn());
  second.close();
  expect(await armed).toEqual({ done: false });
  expect(await statusOf(guest)).toBe('paused');
  first.close();
});

test('the handover does not act once the recall has', async () => {
  const { guest, place } = await booted();
  await guest.client.execute('stop', { by: 'agent' });
  const turn = new Turn();
  const recall = await recalls.open(place);
  expect(await recall.arm(0, turn)).toMatchObject({ done: true });
  expect(turn.take('handover')).toBe(false);
  expect(turn.isRecalled).toBe(true);
  expect(await statusOf(guest)).toBe('running');
  recall.close();
});

test('a guest that a person has paused stays so, and one that runs is left alone', async () => {
  const { guest, place } = await booted();
  const recall = await recalls.open(place);
  expect(await recall.arm(0, new Turn())).toMatchObject({ done: true, trouble: undefined });
  await guest.client.execute('stop', { by: 'operator' });
  expect(await recall.arm(0, new Turn())).toMatchObject({ done: true, trouble: undefined });
  expect(await statusOf(guest)).toBe('paused');
  recall.close();
});

test('a VMM that is gone is said to be', async () => {
  const { guest, place } = await booted();
  const recall = await recalls.open(place);
  process.kill(guest.vmm.pid, 'SIGKILL');
  await until(() => !alive(guest.vmm.pid));
  expect(await recall.arm(0, new Turn())).toMatchObject({
    done: true,
    trouble: expect.any(String),
  });
  recall.close();
  await expect(recalls.open(place)).rejects.toThrow();
});

test('when the thread is stopped, what it was to do is known not to be done', async () => {
  const { guest, place } = await booted();
  await guest.client.execute('stop', { by: 'agent' });
  const others = new Recalls();
  const recall = await others.open(place);
  const armed = recall.arm(3_600_000, new Turn());
  armed.catch(() => {});
  await others.stop();
  await expect(armed).rejects.toThrow();
  const other = await recalls.open(place);
  expect(await other.arm(0, new Turn())).toMatchObject({ done: true });
  expect(await statusOf(guest)).toBe('running');
  other.close();
});

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
