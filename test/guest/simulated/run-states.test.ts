import { connect } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { GuestCopy } from '../../../lib/guest/guest.ts';
import type { RunState } from '../../../lib/guest/run-state.ts';
import { attachSimulated } from '../../../lib/guest/simulated/copy.ts';
import { startSimulatedDestination } from '../../../lib/guest/simulated/destination.ts';
import { connectSimulatedSource } from '../../../lib/guest/simulated/source.ts';
import { halt } from '../../halt.ts';
import { saved } from '../states.ts';
import { GuestDir, type TestGuest, until } from './fixture.ts';

let here: GuestDir;
let there: GuestDir;
let guest: TestGuest;
const copies: GuestCopy[] = [];

beforeEach(async () => {
  here = new GuestDir();
  there = new GuestDir();
  guest = await here.boot('vm');
});

afterEach(() => {
  for (const copy of copies.splice(0)) copy.close();
  here.dispose();
  there.dispose();
});

async function source() {
  const copy = await connectSimulatedSource(here.dir, 'vm');
  copies.push(copy);
  return copy;
}

const status = () => guest.client.execute<{ status: string; by?: string }>('query-status');

const TROUBLES: [string, RunState][] = [
  ['io-error', 'io-error'],
  ['guest-panicked', 'panicked'],
  ['shutdown', 'shut-down'],
  ['watchdog', 'watchdog'],
];

test.each(TROUBLES)('a guest that stops by itself is left as it is: %s', async (as, state) => {
  const copy = await source();
  const seen: RunState[] = [];
  copy.onStopped((stopped) => seen.push(stopped));
  await guest.client.execute('fail', { as });
  await until(() => seen.length > 0);
  expect(seen).toEqual([state]);
  expect(await copy.state()).toBe(state);
  expect(await copy.suspend()).toBe(state);
  expect(await copy.resume()).toBe(state);
  expect(await status()).toEqual({ status: as, running: false });
});

test('what an agent has stopped it resumes, and is not told of', async () => {
  const copy = await source();
  const seen: RunState[] = [];
  copy.onStopped((stopped) => seen.push(stopped));
  expect(await copy.suspend()).toBe('paused');
  expect(await status()).toEqual({ status: 'paused', running: false, by: 'agent' });
  expect(await copy.resume()).toBe('running');
  expect(await copy.resume()).toBe('running');
  expect(seen).toEqual([]);
  expect(copy.arrives).toBe('running');
});

test('a guest that a person pauses in the middle stays paused', async () => {
  const copy = await source();
  const stopped = new Promise<RunState>((resolve) => copy.onStopped(resolve));
  await guest.client.execute('stop');
  expect(await stopped).toBe('paused');
  expect(copy.arrives).toBe('paused');
  expect(await copy.suspend()).toBe('paused');
  expect(await copy.resume()).toBe('paused');
  // Also by an agent that knows nothing but the handle.
  const found = (await attachSimulated(copy.handle)) as GuestCopy;
  copies.push(found);
  expect(await found.resume()).toBe('paused');
  await guest.client.execute('cont');
  expect(await copy.state()).toBe('running');
  expect(copy.arrives).toBe('running');
});

test('a paused guest can be moved, and stays paused when it stays here', async () => {
  await guest.client.execute('stop');
  const copy = await source();
  expect(copy.arrives).toBe('paused');
  await copy.suspend();
  await saved(copy);
  expect(await copy.resume()).toBe('paused');
  expect(await status()).toMatchObject({ status: 'paused', by: 'operator' });
});

test('a guest that has shut itself down cannot be moved', async () => {
  await guest.client.execute('fail', { as: 'shutdown' });
  await expect(source()).rejects.toMatchObject({
    code: 'guest-not-running',
    message: 'guest vm has shut itself down; only a guest that runs or is paused can be moved',
  });
  await expect(guest.client.execute('cont')).rejects.toMatchObject({ code: 'hypervisor-failed' });
});

test('a copy that has not arrived has not been started', async () => {
  const { description } = await source();
  const known = async () => {};
  const copy = await startSimulatedDestination({ dir: there.dir, description, known });
  there.track(JSON.parse(copy.handle).pid);
  copies.push(copy);
  expect(await copy.state()).toBe('incoming');
  await expect(copy.resume()).rejects.toMatchObject({ code: 'not-started' });
});

test('a command of a client that has died comes before what came later', async () => {
  await halt(guest.vmm.pid);
  const dead = connect(guest.vmm.socket);
  const lines = ['stop', 'cont', 'stop', 'cont'].map((execute) => JSON.stringify({ execute }));
  await new Promise<void>((resolve) => dead.write(`${lines.join('\n')}\n`, () => resolve()));
  dead.destroy();
  const later = guest.client.execute('stop', { by: 'agent' });
  process.kill(guest.vmm.pid, 'SIGCONT');
  await later;
  await guest.client.execute('query-guest');
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(await status()).toEqual({ status: 'paused', running: false, by: 'agent' });
});
