import { describe, expect, test } from 'vitest';
import { EXIT } from '../../lib/exit.ts';
import { run } from './run.ts';

/** A socket without a daemon: what is refused before anything starts does not even look for one. */
const NOWHERE = ['--socket', '/nonexistent/agent.sock'];

describe.concurrent('agent-send migrate refuses', () => {
  test.each([
    ['--max-suspend-time', '300', ['bare number', 'ms, s, m, h']],
    ['--max-suspend-time', '5ms', ['10 ms to 1 h 00 m']],
    ['--max-suspend-time', '2h', ['10 ms to 1 h 00 m']],
    ['--max-suspend-time', 'soon', ['ms, s, m, h']],
    ['--max-suspend-time', 'none', ['cannot be taken away']],
    ['--timeout', '10ms', ['1.00 s to 168 h 00 m']],
    ['--prefer', 'both', ['workload or completion']],
    ['--pause-below', '0ms', ['1 ms to 1 h 00 m']],
    ['--pause-below', '400ms', ['1 ms to 300 ms']],
    ['--abort-above', '1ms', ['10 ms to 1 h 00 m']],
    ['--bandwidth', '100', ['bare number', 'gbit']],
    ['--bandwidth', '1kbit', ['976.6 KiB/s to 931.3 GiB/s']],
    ['--lanes', '0', ['1 to 64']],
    ['--lanes', '65', ['1 to 64']],
    ['--lanes', 'two', ['1 to 64']],
    ['--policy', 'qemu', ['contract, xen or custom']],
    ['--policy', 'custom', ['--policy-module']],
    ['--max-iters', '3', ['no meaning for the contract policy']],
    ['--min-remaining', '3', ['no meaning for the contract policy']],
    ['--max-iters', '-1', ['1 to 10000']],
    ['--at', '2:00', ['it takes a time (02:00) or a date and time']],
    ['--at', '24:00', ['it takes a time']],
    ['--at', '2026-13-01T02:00', ['it takes a time']],
    ['--at', '2001-01-01T02:00', ['that is past, it is 20']],
    ['--window', '02:00', ['two different times of day (02:00-04:00)']],
    ['--window', '02:00-02:00', ['two different times of day']],
    ['--window', 'cutover', ['two different times of day']],
    ['--no-hold', '1', ['Unknown option']],
    ['--nonsense', '1', ['Unknown option']],
    ['--tunnelled', '', ['--tunnelled: what travels is in the TLS of the agents']],
    ['--migrate-disks', '', ['all disks are copied that are not shared or only read']],
    ['--dname', 'web2', ['it is --dest-name here']],
  ])('%s %s', async (option, value, facts) => {
    const { code, stdout, stderr } = await run(
      'agent-send',
      ...['migrate', 'vm1', 'hostb', option, value, ...NOWHERE],
    );
    expect([code, stdout]).toEqual([EXIT.usage, '']);
    expect(stderr).toMatch(/^agent-send: .*\(bad-option\)\n$/);
    for (const fact of [option, ...facts]) expect(stderr).toContain(fact);
  });

  test.each([
    [['--hold', '--at', '02:00'], '--at', 'choose one of --hold, --at, --window'],
    [['--timeout', '1m', '--at', '2199-01-01T02:00'], '--timeout', 'before its time comes in'],
    [['--policy', 'xen', '--max-iters', '0'], '--max-iters', '1 to 10000'],
    [['--policy', 'xen', '--max-iters', '10001'], '--max-iters', '1 to 10000'],
    [['--policy', 'xen', '--pause-below', '9ms'], '--pause-below', 'no meaning for the xen'],
    [['--policy', 'xen', '--abort-above', '9s'], '--abort-above', 'no meaning for the xen'],
    [['--policy', 'xen', '--prefer', 'workload'], '--prefer', 'no meaning for the xen'],
    [['--policy', 'xen', '--policy-module', 'x.ts'], '--policy-module', '--policy custom'],
    [
      ['--pause-below', '200ms', '--abort-above', '100ms'],
      '--pause-below',
      '--abort-above allows only 1 ms to 100 ms',
    ],
  ])('%j', async (args, option, fact) => {
    const { code, stderr } = await run(
      'agent-send',
      'migrate',
      'vm1',
      'hostb',
      ...args,
      ...NOWHERE,
    );
    expect(code).toBe(EXIT.usage);
    expect(stderr).toContain(option);
    expect(stderr).toContain(fact);
  });

  test.each([
    [['vm1']],
    [['vm1', 'hostb', 'hostc']],
    [['vm1', 'hostb:0']],
    [['vm1', 'hostb:65536']],
    [['vm1', '::1']],
    [['vm1', '[::1']],
    [['vm1', '']],
  ])('the arguments %j', async (args) => {
    const { code, stderr } = await run('agent-send', 'migrate', ...args, ...NOWHERE);
    expect(code).toBe(EXIT.usage);
    expect(stderr).toContain('HOST[:PORT]');
  });
});

describe.concurrent('also refused:', () => {
  test.each([
    ['agent-send', ['fly'], 'no command "fly"'],
    ['agent-send', ['set', '4f2a'], 'nothing to change'],
    ['agent-send', ['set', '4f2a', '--max-suspend-time', '1ms'], '10 ms to 1 h 00 m'],
    ['agent-send', ['set', 'x/../y', '--timeout', '9s'], 'hexadecimal digits'],
    ['agent-send', ['show'], 'takes ID'],
    ['agent-send', ['cancel', '4f2a', '4f2b'], 'takes ID'],
    ['agent-send', ['cutover', '..'], 'hexadecimal digits'],
    ['agent-send', ['list', '--json=yes'], "'--json' does not take an argument"],
    ['agent-send', ['report', '4f2a', '--ledger', 'x'], 'either ID or --ledger FILE'],
    ['agent-send', ['replay', '4f2a', '--ledger', 'f'], 'either ID or --ledger FILE'],
    ['agent-send', ['replay', '4f2a', '--max-suspend-time', '5ms'], '10 ms to 1 h 00 m'],
    ['agent-send', ['replay', '4f2a', '--bandwidth', '1gbit'], "Unknown option '--bandwidth'"],
    ['agent-send', ['serve', '--lanes', '99'], '1 to 64'],
    ['agent-send', ['serve', '--peer-timeout', '1ms'], '500 ms to 10 m'],
    ['agent-send', ['serve', '--connect-timeout', '5'], 'bare number'],
    ['agent-recv', ['serve', '--listen', 'here'], 'HOST:PORT'],
    ['agent-recv', ['serve', '--listen', 'h:70000'], '0 to 65535'],
    ['agent-recv', ['serve', '--data-ports', '7080'], 'FIRST-LAST'],
    ['agent-recv', ['serve', '--data-ports', '7080-7070'], '7080 to 65535'],
    ['agent-recv', ['serve', '--peer-timeout', '1h'], '500 ms to 10 m'],
    ['agent-recv', ['serve', '--max-migrations', '0'], '1 to 256'],
    ['agent-send', ['serve', '--host-dir='], 'a path of 1 to 4095 bytes, not ""'],
    ['agent-recv', ['serve', '--socket', `/${'x'.repeat(107)}`], 'a path of 1 to 107 bytes'],
    ['agent-send', ['serve', '--reconnect-timeout', '2h'], '0 ms to 1 h 00 m'],
    ['agent-recv', ['keygen', 'hosta', '--dir', '/dev/null/x'], '--dir /dev/null/x cannot be made'],
    ['agent-recv', ['keygen', '../hosta'], 'is not a host name'],
  ] as const)('%s %j', async (agent, args, fact) => {
    const { code, stderr } = await run(agent, ...args);
    expect(stderr).toContain(fact);
    expect(code).toBe(EXIT.usage);
  });

  test('with --json the error is one JSON object', async () => {
    const { code, stderr } = await run('agent-send', 'show', 'vm1', '--json');
    expect(code).toBe(EXIT.usage);
    expect(JSON.parse(stderr)).toEqual({
      error: { code: 'bad-option', message: expect.stringContaining('"vm1"') },
    });
  });
});

describe.concurrent('without a daemon', () => {
  test.each([
    ['agent-send', ['migrate', 'vm1', 'hostb']],
    ['agent-send', ['list']],
    ['agent-send', ['show', '4f2a']],
    ['agent-send', ['set', '4f2a', '--timeout', '1m']],
    ['agent-send', ['cutover', '4f2a']],
    ['agent-send', ['cancel', '4f2a']],
    ['agent-send', ['report', '4f2a']],
    ['agent-send', ['replay', '4f2a']],
    ['agent-send', ['guests']],
    ['agent-send', ['calibration']],
    ['agent-recv', ['list']],
    ['agent-recv', ['show', '4f2a']],
    ['agent-recv', ['cancel', '4f2a']],
  ] as const)('%s %j', async (agent, args) => {
    const { code, stderr } = await run(agent, ...args, ...NOWHERE);
    expect(code).toBe(EXIT['no-daemon']);
    expect(stderr).toBe(
      `${agent}: no ${agent} answers on ${NOWHERE[1]}; start one with "${agent} serve" (daemon-unreachable)\n`,
    );
  });
});
