import { afterEach, describe, expect, test } from 'vitest';
import type { MigrationView } from '../../lib/migration/view.ts';
import { readLedger } from '../../lib/report/ledger.ts';
import { summarize, summaryText } from '../../lib/report/summary.ts';
import { Hosts, until } from './hosts.ts';
import { type CuttableNetwork, noNamespaces, twoNamespaces } from './namespaces.ts';

const GUEST = { memory: '64MiB', workload: 'hot-set', rate: 500, content: 'random=100' } as const;
/** A test of a hold is not one of how fast this machine is. */
const LIMIT = ['--max-suspend-time', '20s'];
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

let hosts: Hosts;
let network: CuttableNetwork | undefined;
afterEach(async () => {
  network?.join();
  await hosts.end();
  network?.close();
  network = undefined;
});

async function held(...options: string[]): Promise<string> {
  await hosts.boot(GUEST);
  const id = await hosts.begin(...LIMIT, ...options);
  await ready(id);
  return id;
}

async function ready(id: string): Promise<void> {
  await until(async () => (await hosts.view(id)).hold?.ready === true, 'it is ready and held');
}

const show = async (id: string, agent: 'send' | 'recv' = 'send') =>
  (await hosts.run(['show', id], agent)).stdout;

/** A time of day some minutes from now. */
function inMinutes(minutes: number): string {
  const at = new Date(Date.now() + minutes * 60_000);
  return at.toTimeString().slice(0, 5);
}

describe('a guest that is held', () => {
  test('runs on, says what that costs, and is moved when the cutover is ordered', async () => {
    hosts = await Hosts.start();
    const id = await held('--hold');
    await sleep(3000);
    const view = await hosts.view(id);
    expect(view).toMatchObject({
      phase: 'precopy',
      hold: { until: 'until a cutover is ordered', ready: true },
      verdict: { action: 'hold' },
    });
    // The hot set is small against the limit: nothing has to be sent for it to stay ready.
    expect(view.hold!.wirePerMinute).toBeLessThan(64 * 2 ** 20);
    expect(view.estimate!.expected).toBeLessThan(5000);
    const shown = await show(id);
    expect(shown).toMatch(/^state: +held$/m);
    expect(shown).toMatch(
      /^held: +until a cutover is ordered, ready; .* so far, .* a minute on the wire$/m,
    );
    const there = (await hosts.run(['list'], 'recv')).stdout;
    const receiving = /[0-9a-f]{16}/.exec(there)![0];
    expect(await show(receiving, 'recv')).toMatch(/^verdict: +hold: ready, forecast /m);
    await hosts.mustRunAt('source');

    expect(await hosts.run(['cutover', id])).toMatchObject({ code: 0 });
    const ended = await hosts.ended(id);
    expect(ended).toMatchObject({ outcome: 'completed' });
    expect(ended.hold).toBeUndefined();
    expect(ended.suspension!.agentMs).toBeLessThan(5000);
    await hosts.mustRunAt('destination');

    const records = await readLedger(`${hosts.dir}/send/ledgers/${id}.ndjson`);
    expect(summaryText(summarize(records))).toMatch(
      /^ {2}held +.* s for .* on the wire, .* a minute/m,
    );
    // A day of it has to fit on the disk.
    const holds = records.filter((r) => r.type === 'consultation' && r.verdict.action === 'hold');
    expect(holds.length).toBeLessThan(5);
  });

  test('is moved when it is not to be held any more', async () => {
    hosts = await Hosts.start();
    const id = await held('--window', `${inMinutes(60)}-${inMinutes(120)}`);
    expect((await hosts.view(id)).hold!.until).toMatch(/^until \d{4}-\d\d-\d\d \d\d:\d\d$/);
    expect(await hosts.run(['set', id, '--no-hold'])).toMatchObject({ code: 0 });
    expect(await hosts.ended(id)).toMatchObject({ outcome: 'completed' });
    await hosts.mustRunAt('destination');
  });

  test('is moved by itself when its time has come', async () => {
    hosts = await Hosts.start();
    const id = await held('--at', '2099-01-01T02:00');
    expect((await hosts.view(id)).hold!.until).toBe('until 2099-01-01 02:00');
    const soon = new Date(Date.now() + 4000);
    expect(await hosts.run(['set', id, '--at', soon.toISOString()])).toMatchObject({ code: 0 });
    const ended = await hosts.ended(id);
    expect(ended).toMatchObject({ outcome: 'completed' });
    expect(Date.parse(ended.startedAt) + ended.elapsedMs).toBeGreaterThan(soon.getTime());
    await hosts.mustRunAt('destination');
  });

  test('stays where it is when the migration is cancelled', async () => {
    hosts = await Hosts.start();
    const id = await held('--hold');
    expect(await hosts.run(['cancel', id])).toMatchObject({ code: 0 });
    expect(await hosts.ended(id)).toMatchObject({ outcome: 'cancelled' });
    await hosts.mustRunAt('source');
    await hosts.mustBeGoneFrom('destination');
  });

  test('runs on when the agent is restarted, which ends the migration', async () => {
    hosts = await Hosts.start();
    const id = await held('--hold');
    await hosts.send.end();
    await hosts.startSend();
    await hosts.mustRunAt('source');
    await hosts.mustBeGoneFrom('destination');
    const records = await readLedger(`${hosts.dir}/send/ledgers/${id}.ndjson`);
    expect(records.at(-1)).toMatchObject({ type: 'end', code: 'shutting-down' });
  });

  test.skipIf(noNamespaces())('survives a connection that is cut', async () => {
    network = twoNamespaces();
    const limits = ['--peer-timeout', '3s', '--reconnect-timeout', '60s'];
    hosts = await Hosts.start({ network, send: limits, recv: limits });
    const id = await held('--hold');
    network.cut();
    await until(async () => (await hosts.view(id)).waitsFor !== undefined, 'it is noticed');
    await hosts.mustRunAt('source');
    await sleep(2000);
    network.join();
    await until(async () => (await hosts.view(id)).waitsFor === undefined, 'it is back');
    await ready(id);
    expect(await hosts.run(['cutover', id])).toMatchObject({ code: 0 });
    expect(await hosts.ended(id)).toMatchObject({ outcome: 'completed' });
    await hosts.mustRunAt('destination');
  });
});

describe('a cutover', () => {
  const SLOWLY = [
    '--bandwidth',
    '4MB/s',
    '--suspend-bandwidth',
    '4MB/s',
    '--no-compression',
    '--max-suspend-time',
    '150ms',
  ];
  const forecast = (id: string) =>
    until(async () => (await hosts.view(id)).estimate !== undefined, 'there is a forecast');

  test('whose forecast is above the limit is refused with figures, unless forced', async () => {
    hosts = await Hosts.start();
    await hosts.boot({ ...GUEST, memory: '16MiB', rate: 5000 });
    const id = await hosts.begin(...SLOWLY, '--hold');
    await forecast(id);
    const refused = await hosts.run(['cutover', id]);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(
      /the forecast is .* \(.* to .*\) and takes a limit of .*, not 150 ms: it would be rolled back; raise --max-suspend-time, or try it all the same with --force \(cutover-refused\)/,
    );
    expect((await hosts.view(id)).phase).toBe('precopy');
    await hosts.run(['cutover', id, '--force']);
    expect(await hosts.ended(id)).toMatchObject({ outcome: 'aborted', code: 'suspension-limit' });
    await hosts.mustRunAt('source');
  });

  test('before there is a forecast waits for it', async () => {
    hosts = await Hosts.start();
    await hosts.boot({ ...GUEST, memory: '16MiB', rate: 10 });
    const id = await hosts.begin(
      '--bandwidth',
      '4MB/s',
      '--suspend-bandwidth',
      '4MB/s',
      '--no-compression',
      ...LIMIT,
      '--hold',
    );
    const { stdout } = await hosts.run(['cutover', id, '--json']);
    expect((JSON.parse(stdout) as MigrationView).phase).toMatch(/^connecting$|^precopy$/);
    const ended = await hosts.ended(id);
    expect(ended).toMatchObject({ outcome: 'completed' });
    expect(ended.pagesSent).toBeGreaterThanOrEqual(4096); // the first round was whole
    await hosts.mustRunAt('destination');
  });
});
