import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, expect, onTestFinished, test } from 'vitest';
import { ControlClient } from '../../lib/guest/simulated/control-client.ts';
import { PAGE_SIZE } from '../../lib/memory/guest-layout.ts';
import type { MigrationView } from '../../lib/migration/view.ts';
import { run } from '../cli/run.ts';
import { until } from './daemon.ts';
import type { Host } from './host.ts';
import { AT } from './places.ts';
import { AGENTS, LOOPBACKS, Site, type SiteOptions } from './site.ts';

/*
 * A guest that moves away and comes back within --keep-memory: what its memory was is still there, and
 * only what differs travels.
 */

const MIB = 2 ** 20;
const PAGES = (32 * MIB) / PAGE_SIZE;
/** Pages that are written and do not change, as a guest does now and then. */
const FEW = 0.01 * PAGES;
/** Without zero pages, so that a tenth of it is a tenth of what travels. */
const GUEST = {
  memory: '32MiB',
  workload: 'idle',
  content: 'text=45,binary=45,random=10',
} as const;
/** How well pages compress is not what is counted. */
const MOVE = ['--max-suspend-time', '20s', '--no-compression'];

let site: Site;
afterEach(({ task }) => {
  // What is kept outlives the agents.
  for (const host of site.hosts) for (const file of keptAt(host)) fs.rmSync(file);
  return site.finish(task.result?.state === 'fail');
});

async function start(keep: string, options: SiteOptions = {}): Promise<void> {
  const agents = ['A.send', 'A.recv', 'B.send', 'B.recv'] as const;
  site = await Site.start({ agents, send: ['--keep-memory', keep], ...options });
  await site.A.boot(GUEST);
}

/** Files of memory that are kept at the host. */
function keptAt({ places }: Host): string[] {
  const files = fs.readdirSync(places.ramDir).filter((name) => name.endsWith('.kept'));
  return files.map((name) => path.join(places.ramDir, name));
}

/** Nothing of the guest is left there, and no record of memory that was kept. */
async function mustGetEmpty({ name, places }: Host): Promise<void> {
  const records = path.join(places.hostDir, 'kept');
  await until(() => {
    const left = fs.existsSync(records) ? fs.readdirSync(records) : [];
    return [...left, ...fs.readdirSync(places.ramDir)].length === 0;
  }, `nothing is left at ${name}`);
}

/** The guest moves, runs, and finds all its memory as it wrote it. */
async function move(from: Host, to: Host, ...options: string[]): Promise<MigrationView> {
  const view = await from.migrate(to, [...MOVE, ...options]);
  expect(view).toMatchObject({ outcome: 'completed' });
  await to.mustRun();
  return view;
}

/** The guest writes all of so much memory anew, and is idle again. */
async function rewrite(host: Host, bytes: number): Promise<void> {
  const guest = await ControlClient.connect(host.socketOf('vm1'), 'vm1');
  const written = async () => (await guest.execute<{ written: number }>('query-guest')).written;
  try {
    const before = await written();
    const sweep = { workload: 'sweep', rate: 'full', workingSet: bytes, inPlace: 0 };
    await guest.execute('set-workload', sweep);
    await until(async () => (await written()) - before > (2 * bytes) / PAGE_SIZE, 'all is written');
    await guest.execute('set-workload', { workload: 'idle' });
  } finally {
    guest.close();
  }
}

test('a guest that rewrote a tenth is back with 15 % of the bytes, verified', async () => {
  await start('1h');
  const away = await move(site.A, site.B);
  expect(away.encodings.same).toBeLessThan(FEW);
  expect(keptAt(site.A)).toHaveLength(1);
  await rewrite(site.B, 3.2 * MIB);
  const back = await move(site.B, site.A, '--verify');
  expect(back.wireBytes / away.wireBytes).toBeLessThanOrEqual(0.15);
  expect(back.encodings.same).toBeGreaterThan(0.85 * PAGES);
  // It is the guest's memory again, and the host that it has left now keeps what it had.
  expect(keptAt(site.A)).toEqual([]);
  expect(keptAt(site.B)).toHaveLength(1);
  const [note] = site.B.story().match(/its memory is kept here for its return, for 1 h/) ?? [];
  expect(note).toBeDefined();
  const again = await move(site.A, site.B);
  expect(again.wireBytes / away.wireBytes).toBeLessThanOrEqual(0.05);
});

test('pages that have changed where they were kept, and those of another guest, are not trusted', async () => {
  await start('1h');
  await move(site.A, site.B);
  const [file] = keptAt(site.A);
  const fd = fs.openSync(file!, 'r+');
  for (let pfn = 0; pfn < PAGES; pfn += 16) fs.writeSync(fd, 'spoilt', pfn * PAGE_SIZE + 99);
  fs.closeSync(fd);
  const back = await move(site.B, site.A, '--verify');
  expect(back.encodings.same).toBeGreaterThan(0.9 * PAGES);
  expect(back.encodings.raw).toBeGreaterThanOrEqual(PAGES / 16);

  // At B lies what the guest was; another one of its name comes.
  await site.A.quitGuest();
  await site.A.boot({ ...GUEST, seed: 77 });
  const other = await move(site.A, site.B, '--verify');
  expect(other.encodings.same).toBeLessThan(FEW);
  expect(keptAt(site.B)).toEqual([]);
});

test('a host keeps memory for as long as it was told, also when its agents are started anew', async () => {
  await start('20s');
  await move(site.A, site.B);
  expect(keptAt(site.A)).toHaveLength(1);
  await site.restart('A.send', 'A.recv');
  await mustGetEmpty(site.A);
  const back = await move(site.B, site.A);
  expect(back.encodings.same).toBeLessThan(FEW);
});

test('a source that dies as it lets go of the guest keeps nothing, and leaves nothing', async () => {
  await start('1h', { faults: { 'A.send': `kill@${AT.released}` } });
  await site.A.begin(site.B, MOVE);
  await site.struck('A.send');
  await site.startAgent('A.send');
  await site.settled();
  await site.B.mustRun();
  await mustGetEmpty(site.A);
});

test('a destination that dies on the memory that it had kept leaves none of it, and the next move goes', async () => {
  await start('1h');
  await move(site.A, site.B);
  await site.A.agent('recv').end('SIGKILL');
  await site.startAgent('A.recv', 'kill@destination.before.journal-prepared');
  const failed = await site.B.migrate(site.A, [...MOVE, '--timeout', '20s']);
  expect(failed.outcome).not.toBe('completed');
  expect(failed.encodings.same).toBeGreaterThan(0.9 * PAGES); // it had been at it
  await site.struck('A.recv');
  await site.B.mustRun();
  await site.startAgent('A.recv');
  await site.settled();
  await site.A.mustBeGone();
  await mustGetEmpty(site.A);
  const back = await move(site.B, site.A);
  expect(back.encodings.same).toBeLessThan(FEW);
});

test('nobody is told of it but the host that the guest went to', async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-kept-'));
  onTestFinished(() => fs.rmSync(dir, { recursive: true }));
  const made = await run('agent-recv', 'keygen', ...LOOPBACKS, '--dir', dir);
  expect(made.code, made.stderr).toBe(0);
  const file = (name: string) => path.join(dir, name);
  await start('1h', {
    agents: AGENTS,
    tls: (of) => [
      ...['--tls-cert', file(`${of}.pem`), '--tls-key', file(`${of}-key.pem`)],
      ...['--tls-ca', file('ca.pem')],
    ],
    recv: LOOPBACKS.flatMap((of) => ['--allow-peer', of]),
  });
  await move(site.A, site.B);
  const back = await move(site.B, site.A);
  expect(back.encodings.same).toBeGreaterThan(0.9 * PAGES);

  await move(site.A, site.B);
  await move(site.B, site.C);
  expect(keptAt(site.A)).toHaveLength(1);
  const fromElsewhere = await move(site.C, site.A);
  expect(fromElsewhere.encodings.same).toBeLessThan(FEW);
  expect(keptAt(site.A)).toEqual([]); // the guest is here again
});
