import os from 'node:os';
import { afterEach, expect, test } from 'vitest';
import { Hosts, until } from './hosts.ts';

/** What daemons log of a migration. */

let hosts: Hosts;
afterEach(() => hosts.end());

test('a migration begins, is changed, decided and ended in one line each, in text and in JSON', async () => {
  hosts = await Hosts.start({ recv: ['--log-format', 'json'] });
  await hosts.boot();
  const slow = ['--bandwidth', '1MB/s', '--no-compression', '--max-suspend-time', '10s', '--hold'];
  const id = await hosts.begin(...slow, '--lanes', '2');
  await until(async () => (await hosts.view(id)).round > 0, 'pages are sent');
  await hosts.run(['set', id, '--bandwidth', 'none', '--timeout', '10m']);
  await until(async () => (await hosts.view(id)).hold?.ready === true, 'it is held');
  await hosts.run(['cutover', id]);
  await hosts.ended(id);
  const lines = hosts.send.log.split('\n').filter((line) => line.includes(`[${id} vm1]`));
  const said = lines.map((line) => line.replace(/^\S+ (\w+) \[.*?\] /, '$1 '));
  const user = os.userInfo().username;
  expect(said[0]).toBe(
    `info ${user} moves guest vm1 (64 MiB, simulated) to ${hosts.target}: suspend at most 10 s, prefer workload, hold until a cutover is ordered, bandwidth at most 976.6 KiB/s; contract policy, 2 lanes, no compression`,
  );
  for (const what of [
    /^info limits changed: suspend at most 10 s, whole move at most 10 m, .*order(ed)? \(before: .*976\.6 KiB\/s\)$/,
    /^info decision after round \d+: hold: /,
    /^info the operator asked for the cutover$/,
    /^info decision after round \d+: stop-and-copy: /,
    /^info completed: moved; the guest was suspended for .* m?s$/,
  ])
    expect(said.filter((line) => what.test(line))).toHaveLength(1);
  const events = hosts.recv.log
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(events).toContainEqual({
    ...{ time: expect.any(String), level: 'info', about: `${id} vm1` },
    text: expect.stringMatching(/^receiving guest vm1 \(64 MiB, simulated\) from 127/),
  });
});

test('what is less than --log-level is left out', async () => {
  hosts = await Hosts.start();
  await hosts.send.end();
  hosts.source.startSend(undefined, ['--log-level', 'error']).catch(() => {}); // it never says so
  await until(async () => (await hosts.run(['list'])).code === 0, 'it serves');
  expect(hosts.send.log).toBe('');
});
