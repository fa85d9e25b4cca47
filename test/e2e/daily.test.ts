import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EXIT } from '../../lib/exit.ts';
import { start } from '../cli/run.ts';
import { Hosts, until } from './hosts.ts';

/** Commands of every day, with daemons that have moved something. */

let hosts: Hosts;
let moved = '';
let cancelled = '';

beforeAll(async () => {
  hosts = await Hosts.start();
  await hosts.boot();
  moved = (await hosts.migrate('--max-suspend-time', '10s')).id;
  await hosts.boot({ name: 'vm2' });
  cancelled = await slowly();
  await hosts.run(['cancel', cancelled]);
  await hosts.ended(cancelled);
}, 100_000);
afterAll(() => hosts.end());

async function slowly(): Promise<string> {
  const slow = [
    '--bandwidth',
    '1MB/s',
    '--no-compression',
    '--max-suspend-time',
    '10s',
    '--detach',
  ];
  const { stdout, code, stderr } = await hosts.run(['migrate', 'vm2', hosts.target, ...slow]);
  expect(code, stderr).toBe(0);
  await until(async () => (await hosts.view(stdout.trim())).round > 0, 'pages are sent');
  return stdout.trim();
}

const says = async (...args: string[]) => {
  const { code, stdout, stderr } = await hosts.run(args);
  expect([code, stderr], args.join(' ')).toEqual([0, '']);
  return stdout;
};

test('the ledgers tell who moved what, from where to where, and why not', async () => {
  const all = await says('list', '--all');
  const line = (id: string) => all.split('\n').find((one) => one.includes(id));
  expect(line(moved)).toMatch(
    new RegExp(
      `^\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d .* vm1 +${os.hostname()} +${hosts.target} +completed .* m?s +${os.userInfo().username}`,
    ),
  );
  expect(all).toMatch(/vm2 .*cancelled .*\n {2}the migration was cancelled \(cancelled\)\n/);
  expect(all.indexOf(cancelled)).toBeLessThan(all.indexOf(moved)); // the newest first
  const asked = async (...filter: string[]) =>
    JSON.parse(await says('list', ...filter, '--json')).history.map(({ id }: { id: string }) => id);
  expect(await asked('--guest', 'vm1')).toEqual([moved]);
  expect(await asked('--outcome', 'cancelled', '--since', '2d')).toEqual([cancelled]);
  expect(await asked('--since', '2099-01-01')).toEqual([]);
  for (const wrong of [
    ['--since', 'monday'],
    ['--outcome', 'lost'],
  ])
    expect((await hosts.run(['list', ...wrong])).code).toBe(EXIT.usage);
});

test('report takes the newest, and writes to standard output', async () => {
  const html = await says('report', '--output', '-');
  expect(html).toMatch(/^<!doctype html>/i);
  expect(html).toContain(cancelled);
  const file = (await says('report')).trim();
  expect(path.basename(file)).toBe(`godwit-${cancelled}.html`);
  fs.rmSync(file);
});

test('a report tells of both hosts, of their processors, and what another limit would have done', async () => {
  const html = await says('report', moved, '--output', '-');
  for (const part of ['Hosts and link', 'What if', 'Where the time went'])
    expect(html).toContain(`${part}</h`);
  expect(html).toMatch(/agent-send \d+\.\d+\.\d+, Node 26/);
  expect(html).toMatch(/agent-recv \d+\.\d+\.\d+, Node 26/);
  expect(html).toMatch(/hypervisor<\/th><td>simulated VMM [\d.]+<\/td><td>simulated VMM [\d.]+</);
  expect(html).toMatch(/Processor time<\/dt>.*agent-send [\d.]+ m?s, agent-recv [\d.]+ m?s/);
  expect(html).toContain('processors of the agents');
});

test('what has ended leaves nothing to resolve, and says how it ended', async () => {
  expect(await says('resolve', moved)).toBe(
    'The migration has ended, completed. The guest runs at its destination; the copy here is gone.\n',
  );
  expect(await says('resolve', cancelled)).toMatch(
    /^The migration has ended, cancelled: the migration was cancelled\. The guest runs here\.\n$/,
  );
});

test('a beginning that several ids have names them; a guest that there is not is guessed', async () => {
  const ledgers = path.join(hosts.stateDirOf('source'), 'ledgers');
  const first = moved.slice(0, 8);
  const alike = `${first}00000000`;
  fs.copyFileSync(path.join(ledgers, `${moved}.ndjson`), path.join(ledgers, `${alike}.ndjson`));
  const { code, stderr: said } = await hosts.run(['report', first, '--output', '-']);
  fs.rmSync(path.join(ledgers, `${alike}.ndjson`));
  expect([code, said]).toEqual([EXIT.failed, expect.stringContaining('(ambiguous-id)')]);
  expect(said).toContain(`"${first}" begins the ids of 2 migrations: `);
  for (const id of [moved, alike]) expect(said).toContain(id);
  const { stderr } = await hosts.run(['migrate', 'vm', hosts.target]);
  expect(stderr).toMatch(/no guest "vm" on this host; there are .*; did you mean "vm\d"\?/);
});

test('wait, attach and watch see a migration to its end', async () => {
  const id = await slowly();
  const socket = ['--socket', hosts.socketOf('source')];
  const waiting = start('agent-send', ['wait', id, ...socket]);
  const attached = start('agent-send', ['attach', id, ...socket]);
  const watching = start('agent-send', ['watch', ...socket]);
  await Promise.all([watching.saw(`${id} vm2`), attached.saw('round 1')]);
  attached.child.kill('SIGINT'); // it only stops looking
  const left = await attached.ended;
  expect(left.stderr).toContain(`migration ${id} goes on`);
  expect((await hosts.view(id)).outcome).toBeUndefined();
  await hosts.run(['cancel', id]);
  expect(await waiting.ended).toMatchObject({
    code: EXIT.cancelled,
    stdout: expect.stringContaining('state:     cancelled'),
  });
  await watching.saw('cancelled');
  watching.child.kill('SIGINT');
  expect((await watching.ended).code).toBe(0);
  expect(watching.printed()).not.toContain(moved); // it had ended before
  const again = await hosts.run(['wait', moved]);
  expect(again.code).toBe(EXIT.completed);
  expect((await hosts.run(['attach', moved])).code).toBe(EXIT.completed);
});

test('old ledgers go when a daemon is told so, and what is open stays', async () => {
  const open = await slowly();
  const ledgers = path.join(hosts.stateDirOf('source'), 'ledgers');
  const old = new Date(Date.now() - 100 * 86_400_000);
  for (const id of [moved, open]) fs.utimesSync(path.join(ledgers, `${id}.ndjson`), old, old);
  await hosts.send.end('SIGKILL'); // its journal has it open
  const journal = hosts.stateDirOf('source');
  expect(fs.existsSync(path.join(journal, 'journal'))).toBe(true);
  await hosts.source.startSend(undefined, ['--keep-ledgers', '90d', '--ledger-space', '1GiB']);
  await until(() => !fs.existsSync(path.join(ledgers, `${moved}.ndjson`)), 'the old one goes');
  const said = () => hosts.send.log.includes('removed the ledgers of 1 migrations');
  await until(said, 'it says so');
  expect(fs.existsSync(path.join(ledgers, `${open}.ndjson`))).toBe(true);
});
