import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { connectGuest } from '../../lib/guest/simulated/guest-dir.ts';
import { answerPacemaker } from '../../lib/resource/answer.ts';
import { OCF } from '../../lib/resource/call.ts';
import { parseXml } from '../../lib/xml.ts';
import { FakeTools, inHistory } from '../cluster/fake-tools.ts';
import { Hosts, type Side, until } from '../e2e/hosts.ts';

/* The resource agent with real guests, real agents or none, and Pacemaker's tools as files. */

let dir: string;
let tools: FakeTools;
let reasons: string[];
let hosts: Hosts | undefined;

beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-ocf-'));
  tools = new FakeTools();
  reasons = [];
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    reasons.push(`${text}`);
    return true;
  });
  vi.spyOn(console, 'error').mockImplementation(() => {});
});

afterEach(async () => {
  vi.restoreAllMocks();
  if (hosts === undefined) await answer('stop');
  await hosts?.end();
  hosts = undefined;
  tools.end();
  fs.rmSync(dir, { recursive: true });
});

/** What Pacemaker would say; both agents of the host have their things in `dir`, or where `hosts` has them. */
function answer(
  action: string,
  more: Readonly<Record<string, string>> = {},
  side: Side = 'source',
): Promise<number> {
  const host = hosts?.at(side);
  for (const role of ['send', 'recv']) {
    const options = {
      socket: hosts?.socketOf(role === 'send' ? 'source' : 'destination') ?? `${dir}/${role}.sock`,
      'guest-dir': host?.places.guestDir ?? `${dir}/guests`,
      'host-dir': host?.places.hostDir ?? dir,
      'state-dir': dir,
      'ram-dir': dir,
    };
    fs.writeFileSync(`${dir}/${role}.json`, JSON.stringify(options));
  }
  return answerPacemaker(action, {
    OCF_RESOURCE_INSTANCE: 'web1',
    OCF_RESKEY_guest: 'vm1',
    OCF_RESKEY_kind: 'simulated',
    OCF_RESKEY_memory: '16MiB',
    OCF_RESKEY_send_config: `${dir}/send.json`,
    OCF_RESKEY_recv_config: `${dir}/recv.json`,
    OCF_RESKEY_CRM_meta_timeout: '60000',
    ...more,
  });
}

async function pause(): Promise<void> {
  const client = await connectGuest(`${dir}/guests`, 'vm1');
  await client.execute('stop', { by: 'operator' });
  client.close();
}

function record(fields: Readonly<Record<string, unknown>>): void {
  const all = { guest: 'vm1', epoch: 1, migration: '4f2a', journal: 'j', stateDir: dir, ...fields };
  fs.writeFileSync(`${dir}/vm1.json`, JSON.stringify(all));
}

test('its meta-data are XML that says how it moves guests', async () => {
  let said = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    said += text;
    return true;
  });
  expect(await answer('meta-data')).toBe(OCF.success);
  const root = parseXml(said.replace(/<!DOCTYPE[^>]*>\n/, ''));
  const actions = root.children.find(({ name }) => name === 'actions')!.children;
  const names = actions.map(({ attributes }) => attributes.get('name'));
  for (const name of ['start', 'stop', 'monitor', 'migrate_to', 'migrate_from', 'validate-all'])
    expect(names).toContain(name);
});

test('starts and stops a guest as often as it is told, without any agent', async () => {
  expect(await answer('monitor')).toBe(OCF.notRunning);
  expect(await answer('stop')).toBe(OCF.success);
  for (let times = 0; times < 2; times++) expect(await answer('start')).toBe(OCF.success);
  expect(await answer('monitor')).toBe(OCF.success);
  await pause(); // by somebody: that is no failure
  expect(await answer('monitor')).toBe(OCF.success);
  for (let times = 0; times < 2; times++) expect(await answer('stop')).toBe(OCF.success);
  expect(await answer('monitor')).toBe(OCF.notRunning);
});

test('does not say what it cannot know while the agents are down', async () => {
  await answer('start');
  record({ side: 'destination', rest: false });
  expect(await answer('monitor')).toBe(OCF.success); // whatever is open: it runs
  await pause();
  expect(await answer('monitor')).toBe(OCF.failed);
  expect(reasons.join('')).toMatch(/ocf-exit-reason:whether the guest lives here cannot be told/);
  expect(await answer('start')).toBe(OCF.failed);
  record({ side: 'destination', rest: true });
  expect(await answer('monitor')).toBe(OCF.success);
});

test('a call that makes no sense is the fault of who has configured it', async () => {
  expect(await answer('monitor', { OCF_RESKEY_guest: '../x' })).toBe(OCF.configured);
  expect(await answer('monitor', { OCF_RESKEY_kind: 'xen' })).toBe(OCF.configured);
  expect(await answer('promote')).toBe(OCF.unimplemented);
});

test('a move that fails is not taken for the end of the guest', async () => {
  await answer('start');
  const target = { OCF_RESKEY_CRM_meta_migrate_target: 'n2', OCF_RESKEY_hosts: 'n2=127.0.0.1:1' };
  const blocks = { ...target, OCF_RESKEY_CRM_meta_on_fail: 'block' };
  expect(await answer('migrate_to', blocks)).toBe(OCF.failed);
  expect(tools.calls.filter((call) => call.includes('maintenance'))).toEqual([]);
  // Pacemaker would stop it at both nodes now.
  expect(await answer('migrate_to', target)).toBe(OCF.failed);
  expect(tools.calls).toContain('-r web1 --meta -p maintenance -v true');
  expect(await answer('monitor')).toBe(OCF.success);
});

test('sets its resource aside before the guest is suspended, and takes it back when it is known', async () => {
  hosts = await Hosts.start();
  await hosts.boot({ memory: '32MiB' });
  const move = {
    OCF_RESKEY_CRM_meta_migrate_target: 'n2',
    OCF_RESKEY_hosts: `n1=nowhere n2=127.0.0.1:${hosts.port}`,
    OCF_RESKEY_max_suspend_time: '20s',
  };
  expect(await answer('migrate_to', move)).toBe(OCF.success);
  const [moved] = await hosts.source.list('send');
  expect(tools.calls).toEqual([
    ...['migrate_from', 'migrate_to'].map(
      (name) =>
        `forget //node_state[@uname='n2']//lrm_resource[@id='web1']/lrm_rsc_op[@operation='${name}']`,
    ),
    `-r web1 --meta -p godwit-migration -v ${moved!.id}`,
    '-r web1 --meta -p maintenance -v true',
    '-r web1 --meta -d maintenance',
    '-r web1 --meta -d godwit-migration',
  ]);
  expect(await answer('stop')).toBe(OCF.success);
  expect(await answer('monitor')).toBe(OCF.notRunning);
  await hosts.mustRunAt('destination');
});

test('an order to stop ends a move that is under way, and then the guest', async () => {
  hosts = await Hosts.start();
  await hosts.boot({ memory: '32MiB' });
  const id = await hosts.begin('--hold', '--max-suspend-time', '20s');
  await until(async () => (await hosts!.view(id)).hold !== undefined, 'it is held');
  expect(await answer('monitor')).toBe(OCF.success);
  expect(await answer('stop')).toBe(OCF.success);
  expect(await hosts.view(id)).toMatchObject({ outcome: 'cancelled' });
  await hosts.mustBeGoneFrom('source');
});

test('an order to start has a copy that stands go on, but only when its other host was fenced', async () => {
  tools.history('n1');
  hosts = await Hosts.start({
    send: ['--peer-timeout', '1s'],
    recv: ['--peer-timeout', '1s', '--reconnect-timeout', '1s', '--cluster-node', 'n1=127.0.0.1'],
    faults: { send: 'kill@source.before.journal-committed' },
  });
  await hosts.boot({ memory: '32MiB' });
  await hosts.begin('--max-suspend-time', '20s');
  await until(() => !hosts!.send.alive, 'the source is gone');
  await hosts.quitGuest('source'); // with its host
  const prepared = async () => (await hosts!.destination.list('recv'))[0]?.ownership === 'prepared';
  await until(prepared, 'the copy stands');
  const soon = { OCF_RESKEY_CRM_meta_timeout: '3000' };
  expect(await answer('monitor', {}, 'destination')).toBe(OCF.notRunning);
  expect(await answer('start', soon, 'destination')).toBe(OCF.failed);
  expect(reasons.join('')).toMatch(/the guest's place is open/);
  await new Promise((resolve) => setTimeout(resolve, 1100)); // the history has whole seconds
  tools.history('n1', { completed: inHistory(Date.now()) });
  expect(await answer('start', {}, 'destination')).toBe(OCF.success);
  await hosts.mustRunAt('destination');
  expect(hosts.recv.log).toMatch(/Pacemaker \(n1 was fenced at .*\) decides --keep-here/);
});
