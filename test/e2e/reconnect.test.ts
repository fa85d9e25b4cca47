import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readLedger } from '../../lib/report/ledger.ts';
import { Hosts, until } from './hosts.ts';
import {
  bridgedNamespaces,
  type CuttableNetwork,
  type HoledNetwork,
  noNamespaces,
  slowDown,
  twoNamespaces,
} from './namespaces.ts';

const why = noNamespaces();
if (why) console.warn(`connections that are cut are not tested: ${why}`);

/** Half a minute of sending: time enough to cut it. */
const SLOWLY = [
  '--bandwidth',
  '2MB/s',
  '--suspend-bandwidth',
  '2MB/s',
  '--no-compression',
  '--max-suspend-time',
  '10s',
];
const SECOND = 1000;
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe.skipIf(why)('a network that goes away', () => {
  let network: CuttableNetwork;
  let hosts: Hosts;
  beforeEach(() => {
    network = twoNamespaces();
  });
  afterEach(async () => {
    network.join();
    await hosts.end();
    network.close();
  });

  const start = async (reconnect: string) => {
    const limits = ['--peer-timeout', '1s', '--reconnect-timeout', reconnect];
    hosts = await Hosts.start({ network, send: limits, recv: limits });
    await hosts.boot({ memory: '32MiB', workload: 'hot-set', rate: 200, content: 'random=100' });
  };
  const sending = async (...options: string[]) => {
    const id = await hosts.begin(...SLOWLY, ...options);
    await until(async () => (await hosts.view(id)).pagesSent > 1000, 'pages are sent');
    return id;
  };
  const outages = async (id: string) =>
    (await readLedger(`${hosts.dir}/send/ledgers/${id}.ndjson`)).filter((r) => r.type === 'outage');

  test('and comes back: the migration goes on where it was, twice', async () => {
    await start('60s');
    const id = await sending();
    for (let i = 0; i < 2; i++) {
      network.cut();
      await until(async () => (await hosts.view(id)).waitsFor !== undefined, 'it is noticed');
      expect((await hosts.view(id)).waitsFor).toMatch(/a connection, lost .* ago: .*nothing for/);
      await hosts.mustRunAt('source');
      await sleep(SECOND);
      network.join();
      await until(async () => (await hosts.view(id)).waitsFor === undefined, 'it is back');
    }
    const mid = await hosts.view(id);
    expect(mid.phase).toBe('precopy');
    await hosts.run(['set', id, '--bandwidth', 'none']);
    const ended = await hosts.ended(id);
    expect(ended).toMatchObject({ outcome: 'completed' });
    await hosts.mustRunAt('destination');
    // What was sent before the cuts was not sent again: 32 MiB, what the guest has dirtied, and at
    // most the windows of both lanes for each cut.
    const windows = 2 * 2 * 8 * 2 ** 20;
    const dirtied = ended.pagesSent * 4096 - 32 * 2 ** 20;
    expect(ended.wireBytes).toBeLessThan(32 * 2 ** 20 + dirtied + windows);
    const seen = await outages(id);
    expect(seen).toHaveLength(2);
    for (const { reason } of seen) expect(reason).toMatch(/nothing for 1000 ms/);
  });

  test('and stays away: the guest runs on, the destination lets go of its memory', async () => {
    await start('2s');
    const id = await sending();
    network.cut();
    expect(await hosts.ended(id)).toMatchObject({ outcome: 'failed', code: 'reconnect-timeout' });
    await hosts.mustRunAt('source');
    await hosts.mustBeGoneFrom('destination');
    network.join();
    expect(await hosts.migrate('--max-suspend-time', '20s')).toMatchObject({ exit: 0 });
    await hosts.mustRunAt('destination');
  });

  test('in stop-and-copy: rolled back within the limit', async () => {
    await start('60s');
    const id = await sending('--max-suspend-time', '4s');
    await hosts.run(['cutover', id, '--force']);
    await until(async () => (await hosts.view(id)).phase !== 'precopy', 'it is suspended');
    network.cut();
    expect(await hosts.ended(id)).toMatchObject({ outcome: 'aborted', code: 'suspension-limit' });
    await hosts.mustRunAt('source'); // while the network is away
    network.join();
    await hosts.mustBeGoneFrom('destination');
  });

  test('for a cancel: it acts at once', async () => {
    await start('60s');
    const id = await sending();
    network.cut();
    await until(async () => (await hosts.view(id)).waitsFor !== undefined, 'it is noticed');
    await hosts.run(['cancel', id]);
    expect(await hosts.ended(id)).toMatchObject({ outcome: 'cancelled' });
    await hosts.mustRunAt('source');
    network.join();
    await hosts.mustBeGoneFrom('destination');
  });
});

const GUEST = { memory: '32MiB', workload: 'hot-set', rate: 200, content: 'random=100' } as const;

describe.skipIf(why)('a path that is not what it seems', () => {
  let network: CuttableNetwork;
  let hosts: Hosts;
  afterEach(async () => {
    await hosts.end();
    network.close();
  });

  test('small packets pass and large ones do not: ended with what was tried', async () => {
    const holed: HoledNetwork = bridgedNamespaces();
    network = holed;
    const limits = ['--peer-timeout', '1s', '--reconnect-timeout', '3s'];
    hosts = await Hosts.start({ network, send: limits, recv: limits });
    await hosts.boot(GUEST);
    const id = await hosts.begin(...SLOWLY);
    await until(async () => (await hosts.view(id)).pagesSent > 1000, 'pages are sent');
    holed.hole(true);
    const ended = await hosts.ended(id);
    expect(ended).toMatchObject({ outcome: 'failed', code: 'no-progress' });
    expect(ended.message).toMatch(/made again .*acknowledged nothing more .*MTU/);
    await hosts.mustRunAt('source');
    await hosts.mustBeGoneFrom('destination');
    holed.hole(false);
    expect(await hosts.migrate('--max-suspend-time', '20s')).toMatchObject({ exit: 0 });
  });

  test('a slow line, on which pings stand behind pages of four lanes', async () => {
    network = twoNamespaces();
    slowDown(network, '1mbit', '400kb'); // 3.2 s
    const limits = ['--peer-timeout', '1s', '--reconnect-timeout', '20s'];
    hosts = await Hosts.start({ network, send: [...limits, '--lanes', '4'], recv: limits });
    await hosts.boot({ memory: '16MiB', workload: 'idle', content: 'zero=85,random=15' });
    expect(await hosts.migrate('--max-suspend-time', '20s', '--no-compression')).toMatchObject({
      exit: 0,
    });
    await hosts.mustRunAt('destination');
  });
});

describe('an agent that stands still for longer than its peer waits', () => {
  test.each(['send', 'recv'] as const)('agent-%s: the migration goes on', async (agent) => {
    const limits = ['--peer-timeout', '1s', '--reconnect-timeout', '60s'];
    const hosts = await Hosts.start({ send: limits, recv: limits });
    await hosts.boot(GUEST);
    const id = await hosts.begin(...SLOWLY);
    await until(async () => (await hosts.view(id)).pagesSent > 1000, 'pages are sent');
    const other = agent === 'send' ? 'recv' : 'send';
    const { log } = hosts[other];
    hosts[agent].process.kill('SIGSTOP');
    await until(() => hosts[other].log.slice(log.length).includes('nothing for'), 'it is noticed');
    await sleep(SECOND);
    hosts[agent].process.kill('SIGCONT');
    await until(() => hosts.send.log.includes('connected again'), 'it is back');
    await hosts.run(['set', id, '--bandwidth', 'none']);
    expect(await hosts.ended(id)).toMatchObject({ outcome: 'completed' });
    await hosts.mustRunAt('destination');
    await hosts.end();
  });
});
