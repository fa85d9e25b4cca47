import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { GodwitError } from '../../../lib/errors.ts';
import { identify, type ProcessIdentity } from '../../../lib/guest/process-identity.ts';
import type { GuestDefinition } from '../../../lib/guest/qemu/definition.ts';
import { connectQemuSource } from '../../../lib/guest/qemu/source.ts';
import { StreamSocket } from '../../../lib/guest/qemu/stream-socket.ts';
import { crewOfTest } from '../../crew/crew-of-test.ts';

const crew = crewOfTest();

const NOBODY = 65534;
const OTHER = 65533;

let dir: string;
let monitor: string;
let server: Server | undefined;

beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-stream-'));
  fs.chmodSync(dir, 0o755);
  monitor = path.join(dir, 'qmp');
});

afterEach(() => {
  server?.close();
  server = undefined;
  fs.rmSync(dir, { recursive: true, force: true });
});

const self = () => identify(process.pid)!;

async function listen({ listenPath }: StreamSocket): Promise<void> {
  server = createServer((socket) => socket.end('welcome'));
  server.listen(listenPath);
  await once(server, 'listening');
}

/** What a process of that user hears when it connects, or why it cannot. */
async function heard(socket: StreamSocket, uid: number): Promise<string> {
  const program = `
    process.setgroups?.([]); process.setgid(${uid}); process.setuid(${uid});
    const socket = require('node:net').connect(process.argv[1]);
    socket.on('data', (text) => console.log(String(text)));
    socket.on('error', ({ code }) => console.log(code));
  `;
  const child = spawn(process.execPath, ['-e', program, socket.path]);
  const [said] = await once(child.stdout, 'data');
  await once(child, 'exit');
  return String(said).trim();
}

/** This process' descriptors of that directory and of what is in it: the runtime opens and closes others. */
const openedBelow = (place: string): string[] =>
  fs.readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${fd}`).startsWith(place);
    } catch {
      return false; // closed meanwhile: the one that reads the directory is
    }
  });

test('listens beside the monitor, and leaves nothing', async () => {
  const socket = new StreamSocket(monitor);
  await listen(socket);
  socket.giveTo(self());
  const connection = connect(socket.path);
  expect(String((await once(connection, 'data'))[0])).toBe('welcome');
  expect(openedBelow(dir)).toHaveLength(2);
  socket.remove();
  expect(openedBelow(dir)).toEqual([]);
  expect(fs.readdirSync(dir)).toEqual([]);
});

test('takes the place of what an agent that was killed has left, of any version', () => {
  for (const leave of [
    () => new StreamSocket(monitor), // never removed
    () => fs.writeFileSync(`${monitor}.out`, ''),
    () => fs.symlinkSync('/etc', `${monitor}.out`),
  ]) {
    leave();
    new StreamSocket(monitor).remove();
    expect(fs.readdirSync(dir)).toEqual([]);
  }
});

test('refuses what cannot be a place', () => {
  const why = (at: string) => {
    try {
      new StreamSocket(at).remove();
    } catch (error) {
      expect((error as GodwitError).code).toBe('listen-failed');
      return (error as Error).message;
    }
    return 'nothing';
  };
  expect(why(path.join(dir, 'no', 'qmp'))).toContain('ENOENT');
  expect(why(path.join(dir, 'x'.repeat(110)))).toContain('longer than 107 bytes');
  fs.mkdirSync(`${monitor}.out`);
  fs.chmodSync(`${monitor}.out`, 0o777);
  expect(why(monitor)).toContain('belongs to somebody else');
});

describe.skipIf(process.getuid!() !== 0)('a QEMU that runs as another user', () => {
  /** A process of that user, and as whom it connects. */
  async function as(uid: number): Promise<{ identity: ProcessIdentity; end: () => void }> {
    const child = spawn('sleep', ['1000'], { uid, gid: uid });
    await once(child, 'spawn');
    return { identity: identify(child.pid!)!, end: () => child.kill('SIGKILL') };
  }

  test('can connect, and nobody else', async () => {
    const qemu = await as(NOBODY);
    const socket = new StreamSocket(monitor);
    await listen(socket);
    socket.giveTo(qemu.identity);
    expect(await heard(socket, NOBODY)).toBe('welcome');
    expect(await heard(socket, OTHER)).toBe('EACCES');
    socket.remove();
    qemu.end();
  });

  test('has no other file given to it, whatever it puts in the way', async () => {
    fs.chownSync(dir, NOBODY, NOBODY);
    const victim = path.join(dir, 'victim'); // as root's would be anywhere
    fs.writeFileSync(victim, 'root only', { mode: 0o600 });
    const qemu = await as(NOBODY);
    const socket = new StreamSocket(monitor);
    await listen(socket);
    fs.renameSync(`${monitor}.out`, `${monitor}.away`);
    fs.mkdirSync(`${monitor}.out`);
    fs.symlinkSync(victim, socket.path);
    socket.giveTo(qemu.identity);
    socket.remove();
    expect(fs.statSync(victim)).toMatchObject({ uid: 0, mode: 0o100600 });
    expect(fs.readdirSync(`${monitor}.away`)).toEqual([]);
    qemu.end();
  });

  /** Swaps what appears beside its monitor for a link, as fast as it can; a race that it often wins. */
  const TAKEN_OVER = `
    const fs = require('node:fs');
    const [monitor, victim] = process.argv.slice(1);
    const answers = {
      'query-status': { status: 'running', running: true },
      'query-migrate': {},
      'query-migrate-capabilities': ['events', 'return-path'].map((capability) => ({ capability, state: false })),
      'query-migrate-parameters': { 'downtime-limit': 300, 'max-bandwidth': 0 },
      'qom-get': false,
      'query-cpus-fast': [],
    };
    const swap = (tries) => {
      const out = monitor + '.out';
      for (let burst = 0; burst < 1000; burst++) {
        try {
          fs.renameSync(out, out + '.away' + Math.random());
          fs.symlinkSync(victim, out);
          return;
        } catch {}
      }
      if (tries > 0) setImmediate(swap, tries - 1); // between its answers, which are in time
    };
    require('node:net').createServer((socket) => {
      socket.on('error', () => {});
      socket.write('{"QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 2}}}}\\n');
      socket.on('data', (lines) => {
        for (const line of String(lines).trim().split('\\n')) {
          const { execute, id } = JSON.parse(line);
          const error = { class: 'GenericError', desc: 'the stream is nowhere' };
          socket.write(JSON.stringify({ id, ...(execute === 'migrate' ? { error } : { return: answers[execute] ?? {} }) }) + '\\n');
          if (execute === 'migrate-set-parameters') setImmediate(swap, 5_000);
        }
      });
    }).listen(monitor, () => console.log('ready'));
  `;

  test('and has been taken over by its guest gets nothing either', async () => {
    fs.chownSync(dir, NOBODY, NOBODY);
    const victimDir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-victim-'));
    const victim = path.join(victimDir, 'root-only');
    fs.writeFileSync(victim, 'root only', { mode: 0o600 });
    const qemu = spawn(process.execPath, ['-e', TAKEN_OVER, monitor, victim], {
      stdio: ['ignore', 'pipe', 'inherit'],
      uid: NOBODY,
      gid: NOBODY,
    });
    try {
      await once(qemu.stdout, 'data');
      const definition = { name: 'vm1', file: '', hypervisor: 'qemu', qmp: monitor, ram: [] };
      const whole = { ...definition, hooks: {}, limits: {} } as GuestDefinition;
      await expect(connectQemuSource(whole, crew)).rejects.toMatchObject({
        code: expect.stringMatching(/hypervisor-failed|listen-failed/),
      });
      expect(fs.statSync(victim)).toMatchObject({ uid: 0, gid: 0 });
    } finally {
      qemu.kill('SIGKILL');
      await once(qemu, 'exit');
      fs.rmSync(victimDir, { recursive: true });
    }
  });
});
