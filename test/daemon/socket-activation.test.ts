import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { takeActivatedSocket } from '../../lib/daemon/socket-activation.ts';
import { EXIT } from '../../lib/exit.ts';
import { bootSimulatedGuest } from '../../lib/guest/simulated/boot.ts';
import { type Running, root, run, start, watch } from '../cli/run.ts';

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-activation-'));
const launcher = path.join(root, 'agent-recv/agent-recv');
const socket = path.join(dir, 'agent.sock');
const serve = (...more: string[]) => [
  ...['serve', '--socket', socket, '--state-dir', dir, '--guest-dir', path.join(dir, 'guests')],
  ...['--host-dir', path.join(dir, 'host')],
  ...more,
];

const started: Running[] = [];
async function endDaemons(): Promise<void> {
  for (const { child, ended } of started.splice(0)) {
    if (child.exitCode === null) child.kill('SIGKILL');
    await ended;
  }
}
afterEach(endDaemons);
afterAll(() => fs.rmSync(dir, { recursive: true }));

/** Starts agent-recv with the descriptor as fd 3; the launcher's pid becomes the daemon's. */
function activate(
  fd: number,
  { fds = '1', pid = '$$', listen = '127.0.0.1:1', more = [] as string[] } = {},
): Running {
  const script = `LISTEN_PID=${pid} exec "$0" "$@"`;
  const args = ['-c', script, launcher, ...serve('--listen', listen, ...more)];
  const env = { ...process.env, LISTEN_FDS: fds };
  const running = watch(spawn('/bin/sh', args, { env, stdio: ['ignore', 'pipe', 'pipe', fd] }));
  started.push(running);
  return running;
}

/** A listening socket of ours, and its descriptor, which Node does not show. */
async function listening(where: net.ListenOptions) {
  const server = net.createServer();
  server.listen(where);
  await once(server, 'listening');
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
  return { server, fd, port: (server.address() as net.AddressInfo).port };
}

/** A VMM that still has a RAM file, or had one. */
function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // it has ended
  }
}

/** Resolves when the far end has hung up on one who is no sender: somebody served it. */
async function isServed(port: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const client = net.connect(port, '127.0.0.1', () => client.write('no frame of ours'.repeat(9)));
  client.on('error', () => {}); // a reset is as good as an end
  client.on('close', resolve).resume();
  await promise;
}

const LOOPBACK = { port: 0, host: '127.0.0.1' };

describe('agent-recv', () => {
  test('serves the port that it inherits instead of its own', async () => {
    const { server, fd, port } = await listening(LOOPBACK);
    const daemon = activate(fd);
    await daemon.saw('ready');
    expect(daemon.printed()).toContain(`listening on 127.0.0.1 port ${port},`);
    server.close(); // from here on nobody but the daemon accepts
    await isServed(port);
    await daemon.saw('connection turned away');
    daemon.child.kill('SIGTERM');
    expect((await daemon.ended).code).toBe(EXIT.completed);
  });

  test('lets data connections come to the address that it inherits', async () => {
    const { server, fd, port } = await listening({ port: 0, host: '127.0.0.2' });
    const ramDir = fs.mkdtempSync('/dev/shm/godwit-activation-');
    const guest = await bootSimulatedGuest({ name: 'vm1', dir, ramDir, memory: '16MiB' });
    const sender = path.join(dir, 'send.sock');
    try {
      await activate(fd, { more: ['--ram-dir', ramDir] }).saw('ready');
      server.close();
      const places = ['--state-dir', path.join(dir, 'send'), '--guest-dir', dir, '--host-dir', dir];
      const daemon = start('agent-send', ['serve', '--socket', sender, ...places]);
      started.push(daemon);
      await daemon.saw('ready');
      const limit = ['--max-suspend-time', '30s'];
      const args = ['migrate', 'vm1', `127.0.0.2:${port}`, ...limit, '--socket', sender];
      expect(await run('agent-send', ...args)).toMatchObject({ code: EXIT.completed, stderr: '' });
    } finally {
      await endDaemons(); // which could still write there
      killIfThere(guest.pid);
      for (const file of fs.readdirSync(ramDir))
        killIfThere(Number(/-(\d+)-\d+-[0-9a-f]+\.ram$/.exec(file)?.[1]));
      fs.rmSync(ramDir, { recursive: true });
    }
  });

  test('does not take a socket that is meant for another process', async () => {
    const { server, fd } = await listening(LOOPBACK);
    const { server: free, port } = await listening(LOOPBACK);
    free.close();
    const daemon = activate(fd, { pid: '1', listen: `127.0.0.1:${port}` });
    await daemon.saw(`listening on 127.0.0.1 port ${port},`);
    server.close();
  });

  test('started by a connection serves the one that started it', async () => {
    const { server, port } = await listening(LOOPBACK);
    server.close();
    const tool = spawn(
      'systemd-socket-activate',
      ['--listen', `127.0.0.1:${port}`, launcher, ...serve()],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    const daemon = watch(tool);
    started.push(daemon);
    await daemon.saw('Listening on');
    expect(daemon.printed()).not.toContain('ready');
    await isServed(port);
    await daemon.saw(`ready: listening on 127.0.0.1 port ${port},`);
  });

  test.each([
    ['two sockets', '2', 'passes "2" sockets'],
    ['a number that is none', 'one', 'passes "one" sockets'],
  ])('refuses %s', async (_name, fds, why) => {
    const { server, fd } = await listening(LOOPBACK);
    const { code, stderr } = await activate(fd, { fds }).ended;
    server.close();
    expect([code, stderr]).toEqual([EXIT.failed, expect.stringContaining(why)]);
    expect(stderr).toContain('(listen-failed)');
    expect(fs.existsSync(socket)).toBe(false);
  });

  test('refuses what is no listening TCP socket', async () => {
    const { server, fd } = await listening({ path: path.join(dir, 'unix.sock') });
    expect((await activate(fd).ended).stderr).toContain('not a TCP socket (listen-failed)');
    server.close();
    const file = fs.openSync(path.join(dir, 'file'), 'w');
    const { code, stderr } = await activate(file).ended;
    fs.closeSync(file);
    expect(code).toBe(EXIT.usage);
    expect(stderr).toMatch(
      /cannot listen on the socket of the service manager: E\w+ \(listen-failed\)/,
    );
  });
});

describe('the variables', () => {
  const PASSED = { LISTEN_PID: '7', LISTEN_FDS: '1', LISTEN_FDNAMES: 'agent-recv.socket' };

  test('are taken out, whoever they are for', () => {
    const env = { ...PASSED, PATH: '/bin' };
    expect(takeActivatedSocket(env, 7)).toBe(3);
    expect(env).toEqual({ PATH: '/bin' });
    expect(takeActivatedSocket(env, 7)).toBe(undefined);
    const others = { ...PASSED };
    expect(takeActivatedSocket(others, 8)).toBe(undefined);
    expect(others).toEqual({});
  });

  test.each(['0', '', '01', '-1', '1 '])('LISTEN_FDS=%j is refused', (fds) => {
    expect(() => takeActivatedSocket({ ...PASSED, LISTEN_FDS: fds }, 7)).toThrow(
      'one ListenStream=',
    );
  });
});
