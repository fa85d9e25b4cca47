import { afterEach, describe, expect, test } from 'vitest';
import { until } from './daemon.ts';
import { noSmallDisks, SmallDisk } from './disks.ts';
import { Interposer } from './interposer.ts';
import { noNamespaces, star } from './namespaces.ts';
import { type HostName, Site, type SiteOptions } from './site.ts';

/* Device states of passed-through devices, between real daemons, and what may befall them on the way. */

const PATIENT = ['--max-suspend-time', '120s'];

let site: Site;
let interposer: Interposer | undefined;
let small: SmallDisk | undefined;
afterEach(async ({ task }) => {
  interposer?.close();
  interposer = undefined;
  await site.finish(task.result?.state === 'fail');
  small?.remove();
  small = undefined;
});

/** Processes that share a machine with a device state of that size may be silent for a while. */
const LIMITS = ['--peer-timeout', '5s', '--reconnect-timeout', '60s'];

async function start(deviceState: string, options: SiteOptions = {}): Promise<void> {
  const send = [...LIMITS, '--connect-timeout', '20s', ...(options.send ?? [])];
  const recv = [...LIMITS, ...(options.recv ?? [])];
  site = await Site.start({ agents: ['A.send', 'B.recv'], ...options, send, recv });
  await site.A.boot({ memory: '16MiB', deviceState });
}

async function ends(expected: HostName): Promise<void> {
  await site.settled();
  expect(await site.exactlyOne()).toBe(expected);
  site.mustLive();
}

// The VMM proves the state by its checksum, the agents by their digests.
test.each(['64MiB', '256MiB'])('%s of it arrive', async (deviceState) => {
  await start(deviceState);
  const { A, B } = site;
  const view = await A.migrate(B, PATIENT);
  expect(view).toMatchObject({ exit: 0, outcome: 'completed' });
  expect(view.wireBytes).toBeGreaterThan(Number.parseInt(deviceState, 10) * 2 ** 20);
  await ends('B');
});

test('its hypervisor cannot save it: the guest runs on, and the next attempt works', async () => {
  await start('1MiB');
  const { A, B } = site;
  interposer = await Interposer.before(A.socketOf('vm1'));
  interposer.refuse.set('save-device-state', 1);
  const view = await A.migrate(B, PATIENT);
  expect(view).toMatchObject({ outcome: 'failed', code: 'hypervisor-failed' });
  expect(view.message).toContain('an image of the guest is locked');
  await A.mustRun();
  expect(await A.migrate(B, PATIENT)).toMatchObject({ exit: 0 });
  await ends('B');
});

const whyNotSmall = noSmallDisks();
if (whyNotSmall) process.stderr.write(`full memory is not tested: ${whyNotSmall}\n`);

describe.skipIf(whyNotSmall !== undefined)('there is no room for it', () => {
  test('at its source, in the middle of saving', async () => {
    small = new SmallDisk();
    await start('4MiB', { send: ['--ram-dir', small.dir] });
    const { A, B } = site;
    const view = await A.migrate(B, PATIENT);
    expect(view).toMatchObject({ outcome: 'failed', code: 'hypervisor-failed' });
    expect(view.message).toContain('ENOSPC');
    await A.mustRun();
    await B.mustBeGone();
  });

  test('at its destination, in the middle of arriving', async () => {
    small = new SmallDisk('24m');
    await start('32MiB', { recv: ['--ram-dir', small.dir] });
    const { A, B } = site;
    const view = await A.migrate(B, PATIENT);
    expect(view).toMatchObject({ outcome: 'failed', code: 'ram-file-failed' });
    expect(view.message).toContain('no memory left in its file system');
    await A.mustRun();
    await ends('A');
  });
});

const whyNotCut = noNamespaces();
if (whyNotCut) process.stderr.write(`lanes that are cut are not tested: ${whyNotCut}\n`);

describe.skipIf(whyNotCut !== undefined)('its lanes are cut in the middle of it', () => {
  /** Half a minute of it. */
  const SLOWLY = ['--suspend-bandwidth', '2MB/s'];

  async function inTheMiddle(...options: string[]): Promise<string> {
    await start('64MiB', { network: star(3) });
    const { A, B } = site;
    const id = await A.begin(B, [...SLOWLY, ...options]);
    const suspended = async () => (await A.view(id)).phase === 'stop-and-copy';
    await until(suspended, 'the guest stands');
    const { wireBytes } = await A.view(id);
    const sent = async () => (await A.view(id)).wireBytes > wireBytes + 2 ** 20;
    await until(sent, 'some of its device state is sent');
    site.network!.cut(0);
    return id;
  }

  test('and come back: it goes on where it was', async () => {
    const id = await inTheMiddle(...PATIENT);
    const { A } = site;
    await until(async () => (await A.view(id)).waitsFor !== undefined, 'it is noticed');
    site.network!.join(0);
    expect(await A.ended(id)).toMatchObject({ outcome: 'completed' });
    await ends('B');
  });

  test('and stay away: the guest runs at its source when its time is up', async () => {
    const id = await inTheMiddle('--max-suspend-time', '8s', '--policy', 'xen');
    const { A } = site;
    expect(await A.ended(id)).toMatchObject({ outcome: 'aborted', code: 'suspension-limit' });
    await A.mustRun(); // while the network is away
    site.network!.join(0);
    await ends('A');
  });
});
