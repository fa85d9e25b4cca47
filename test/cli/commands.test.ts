import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { ControlServer } from '../../lib/api/server.ts';
import { EXIT } from '../../lib/exit.ts';
import {
  A_FORETOLD_RECORD,
  A_TRACK_RECORD,
  aView,
  ended,
  FakeBackend,
} from '../api/fake-backend.ts';
import { busyGuest } from '../report/fixtures.ts';
import { run, start } from './run.ts';

const cleanups: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function serve(view = aView()): Promise<FakeBackend> {
  const agent = new FakeBackend(view, view.role);
  cleanups.push(() => agent.remove());
  const server = await ControlServer.open(agent.socket, agent);
  cleanups.push(() => server.close());
  return agent;
}

const JSON_VIEW = JSON.parse(JSON.stringify(aView()));

test('list, show and guests, in words and in JSON', async () => {
  const agent = await serve();
  const ask = async (...args: string[]) => {
    const { code, stdout, stderr } = await run('agent-send', ...args, '--socket', agent.socket);
    expect([code, stderr]).toEqual([0, '']);
    return stdout;
  };
  expect(await ask('list')).toMatch(/^ID +GUEST .*\n4f2a000000000001 +vm1 .*\n$/);
  expect(JSON.parse(await ask('list', '--json'))).toEqual({ migrations: [JSON_VIEW] });
  expect(await ask('show', '4f2a')).toContain('to:        hostb:7070\n');
  expect(JSON.parse(await ask('show', '4f2a', '--json'))).toEqual(JSON_VIEW);
  expect(await ask('guests')).toMatch(/^GUEST .*\nvm1 .* runs\nvm2 .* not answered .*\nvm3 .*\n$/);
  expect(JSON.parse(await ask('guests', '--json'))).toEqual({ guests: await agent.guests() });
  expect(await ask('calibration')).toMatch(
    /^HYPERVISOR .*\nqemu +hostb:7070 +40 +2 +8 % +21 % +93 %\n\nHYPERVISOR .*\nqemu +hostb:7070 +time +12 +1 +14 % +40 % +92 %\nqemu +hostb:7070 +suspension +20 % +50 % +83 %\n$/,
  );
  expect(JSON.parse(await ask('calibration', '--json'))).toEqual({
    records: [A_TRACK_RECORD],
    foretold: [A_FORETOLD_RECORD],
  });
});

test('agent-recv lists, shows and cancels', async () => {
  const agent = await serve(aView({ role: 'receive', limits: undefined }));
  const ask = (...args: string[]) => run('agent-recv', ...args, '--socket', agent.socket);
  expect((await ask('list')).stdout).toContain('4f2a000000000001');
  expect((await ask('show', '4f2a')).stdout).toContain('from:      hostb:7070\n');
  expect((await ask('cancel', '4f2a')).stdout).toContain('state:     cancelled\n');
  expect(agent.calls).toEqual([['cancel', '4f2a']]);
});

test('set sends what was given; "none" takes a limit away', async () => {
  const agent = await serve();
  const limits = [
    '--max-suspend-time',
    '800ms',
    '--timeout',
    'none',
    '--bandwidth',
    'none',
    '--suspend-bandwidth',
    '2MB/s',
  ];
  const { code } = await run('agent-send', 'set', '4f2a', ...limits, '--socket', agent.socket);
  expect(code).toBe(0);
  expect(agent.calls).toEqual([
    [
      'change',
      '4f2a',
      { maxSuspendMs: 800, timeoutMs: null, bandwidth: null, suspendBandwidth: 2e6 },
    ],
  ]);
});

test('set changes a hold', async () => {
  const agent = await serve();
  const set = (...args: string[]) =>
    run('agent-send', 'set', '4f2a', ...args, '--socket', agent.socket);
  for (const args of [['--hold'], ['--window', '02:00-04:00'], ['--no-hold']]) await set(...args);
  await set('--at', '2099-01-01T02:00Z');
  expect(agent.calls).toEqual([
    ['change', '4f2a', { hold: 'cutover' }],
    ['change', '4f2a', { hold: '02:00-04:00' }],
    ['change', '4f2a', { hold: null }],
    ['change', '4f2a', { hold: '2099-01-01T02:00:00.000Z' }],
  ]);
  expect((await set('--hold', '--no-hold')).stderr).toContain('choose one of --hold');
});

test('cutover says whether it is to be forced', async () => {
  const agent = await serve();
  const ask = (...args: string[]) =>
    run('agent-send', 'cutover', '4f2a', ...args, '--socket', agent.socket);
  await ask();
  await ask('--force');
  expect(agent.calls).toEqual([
    ['cutover', '4f2a'],
    ['cutover', '4f2a', 'force'],
  ]);
});

test('cutover and cancel; an end cannot be cancelled', async () => {
  const agent = await serve();
  const ask = (command: string) => run('agent-send', command, '4f2a', '--socket', agent.socket);
  expect((await ask('cutover')).code).toBe(0);
  expect((await ask('cancel')).code).toBe(0);
  const { code, stderr } = await ask('cancel');
  expect([code, stderr]).toEqual([EXIT.failed, 'agent-send: it has ended (too-late)\n']);
});

test('resolve: a decision says who decides, and without one nothing is sent', async () => {
  const agent = await serve();
  const ask = (...args: string[]) =>
    run('agent-send', 'resolve', '4f2a', ...args, '--socket', agent.socket);
  const explained = await ask();
  expect([explained.code, agent.calls]).toEqual([EXIT.completed, []]);
  expect(explained.stdout).toContain('--keep-here');
  const saved = process.env.SUDO_USER;
  process.env.SUDO_USER = 'ann\x1b[2J';
  try {
    expect((await ask('--keep-here')).code).toBe(EXIT.completed);
  } finally {
    if (saved === undefined) delete process.env.SUDO_USER;
    else process.env.SUDO_USER = saved;
  }
  const by = `ann?[2J (as ${os.userInfo().username})`;
  expect(agent.calls).toEqual([['resolve', '4f2a', 'keep-here', by]]);
});

test('an unknown migration fails with a sentence', async () => {
  const { socket } = await serve();
  const { code, stderr } = await run('agent-send', 'show', 'ffff', '--socket', socket);
  expect(code).toBe(EXIT.failed);
  expect(stderr).toBe('agent-send: no migration "ffff"; see list (unknown-migration)\n');
});

test('the environment names the socket, the option goes before it', async () => {
  const { socket } = await serve();
  const saved = process.env.GODWIT_SEND_SOCKET;
  process.env.GODWIT_SEND_SOCKET = socket;
  try {
    expect((await run('agent-send', 'list')).code).toBe(0);
    expect((await run('agent-send', 'list', '--socket', '/nonexistent')).code).toBe(6);
  } finally {
    if (saved === undefined) delete process.env.GODWIT_SEND_SOCKET;
    else process.env.GODWIT_SEND_SOCKET = saved;
  }
});

test('report: from the daemon, or from a ledger without one', async () => {
  const { dir, socket, ...agent } = await serveWithLedger();
  const named = path.join(dir, 'out.html');
  const asked = await run(
    'agent-send',
    ...['report', '4f2a', '--output', named, '--json', '--socket', socket],
  );
  expect([asked.code, JSON.parse(asked.stdout)]).toEqual([0, { file: named }]);
  expect(fs.readFileSync(named, 'utf8')).toMatch(/^<!doctype html>/i);

  const start = busyGuest()[0] as { id: string };
  const expected = path.join(fs.realpathSync(dir), `godwit-${start.id}.html`);
  const alone = await runIn(dir, 'report', '--ledger', agent.ledger, '--socket', '/nonexistent');
  expect(alone).toEqual({ code: 0, stdout: `${expected}\n`, stderr: '' });
  expect(fs.readFileSync(expected, 'utf8')).toBe(fs.readFileSync(named, 'utf8'));
});

test('report: what cannot be read or written is told in a sentence', async () => {
  const { dir, ledger } = await serveWithLedger();
  const bad = path.join(dir, 'bad.ndjson');
  fs.writeFileSync(bad, 'no ledger\n');
  const noDir = path.join(dir, 'no', 'out.html');
  for (const [args, code, text] of [
    [['--ledger', bad], EXIT.failed, '(ledger-invalid)'],
    [['--ledger', path.join(dir, 'none.ndjson')], EXIT.failed, '(unknown-migration)'],
    [['--ledger', ledger, '--output', noDir], EXIT.usage, '--output cannot be written: ENOENT'],
  ] as const) {
    const got = await runIn(dir, 'report', ...args);
    expect([got.code, got.stderr]).toEqual([code, expect.stringContaining(text)]);
  }
});

test('keygen: half a CA is not made whole by another one', async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-keygen-'));
  cleanups.push(() => fs.rmSync(dir, { recursive: true }));
  for (const half of ['ca.pem', 'ca-key.pem']) {
    const file = path.join(dir, half);
    fs.writeFileSync(file, 'precious');
    const { code, stderr } = await run('agent-recv', 'keygen', 'hosta', '--dir', dir);
    expect([code, stderr]).toEqual([EXIT.usage, expect.stringContaining(`only ${file} is there`)]);
    expect(fs.readdirSync(dir)).toEqual([half]);
    fs.rmSync(file);
  }
});

test('something else that listens on the socket is no daemon', async () => {
  const agent = await serve();
  const file = path.join(agent.dir, 'other.sock');
  const other = net.createServer((socket) => {
    socket.on('error', () => {}).resume();
    socket.end('HTTP/1.0 200 OK\r\n\r\nhello');
  });
  await new Promise<void>((resolve) => other.listen(file, resolve));
  cleanups.push(() => new Promise((resolve) => other.close(() => resolve())));
  const { code, stderr } = await run('agent-send', 'list', '--socket', file);
  expect(code).toBe(EXIT['no-daemon']);
  expect(stderr).toContain('answers, but not as an agent does');
});

test('a reader that has seen enough is no error', async () => {
  const { socket } = await serve();
  const running = start('agent-send', ['list', '--socket', socket]);
  running.child.stdout!.destroy();
  const { code, stderr } = await running.ended;
  expect([code, stderr]).toEqual([0, '']);
});

test('a migration whose end the daemon remembers is shown with its outcome', async () => {
  const message = 'the guest would have been suspended for 340 ms';
  const { socket } = await serve(ended('aborted', { code: 'suspension-limit', message }));
  const { stdout } = await run('agent-send', 'show', '4f2a', '--socket', socket);
  expect(stdout).toContain('state:     aborted\n');
  expect(stdout).toContain(`message:   ${message} (suspension-limit)\n`);
});

async function serveWithLedger() {
  const agent = await serve();
  const ledger = agent.ledgerFile('4f2a');
  fs.writeFileSync(
    ledger,
    busyGuest()
      .map((record) => `${JSON.stringify(record)}\n`)
      .join(''),
  );
  return { dir: agent.dir, socket: agent.socket, ledger };
}

function runIn(dir: string, ...args: string[]) {
  return start('agent-send', args, dir).ended;
}
