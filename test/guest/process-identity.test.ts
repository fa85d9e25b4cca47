import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  bootId,
  descends,
  identify,
  isAlive,
  processBehind,
} from '../../lib/guest/process-identity.ts';
import { cutOff, noNamespaces } from '../e2e/namespaces.ts';
import { halt } from '../halt.ts';

let dir: string;
let monitor: string;
const children: ChildProcess[] = [];

beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-identity-'));
  monitor = path.join(dir, 'qmp');
});

afterEach(async () => {
  for (const child of children.splice(0)) {
    const ended = child.exitCode === null && child.signalCode === null && once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }
  fs.rmSync(dir, { recursive: true });
});

const SERVE = `
  const [where, fd] = process.argv.slice(1);
  const server = require('node:net').createServer(() => {});
  server.listen(fd ? { fd: Number(fd) } : where, () => console.log('ready'));
`;

/** A process that serves the monitor, as command `within` starts it. */
async function serveElsewhere(within: readonly string[], fd?: number): Promise<ChildProcess> {
  const given = fd === undefined ? [] : ['3'];
  const [program, ...args] = [...within, process.execPath, '-e', SERVE, monitor, ...given];
  const stdio: StdioOptions = ['pipe', 'pipe', 'inherit', ...(fd === undefined ? [] : [fd])];
  const child = spawn(program!, args, { stdio });
  children.push(child);
  await once(child.stdout!, 'data');
  return child;
}

async function listen(at: string): Promise<Server> {
  const server = createServer((socket) => socket.on('error', () => {})).listen(at);
  await once(server, 'listening');
  return server;
}

async function dial(): Promise<Socket> {
  const connection = connect(monitor);
  connection.on('error', () => {});
  await once(connection, 'connect');
  return connection;
}

test('behind a connection is who has taken it up, not who stands at its path now', async () => {
  const first = await listen(monitor);
  const connection = await dial();
  expect(await processBehind(connection)).toEqual(identify(process.pid));
  fs.rmSync(monitor);
  const other = await serveElsewhere([]);
  expect(await processBehind(connection)).toEqual(identify(process.pid));
  const second = await dial();
  expect(await processBehind(second)).toEqual(identify(other.pid!));
  for (const closing of [connection, second]) closing.destroy();
  expect(await processBehind(connection)).toBeUndefined();
  first.close();
});

test.skipIf(noNamespaces())('behind a connection is seen in any network namespace', async () => {
  const namespace = cutOff();
  try {
    const other = await serveElsewhere(namespace.within);
    const connection = await dial();
    expect(await processBehind(connection)).toEqual(identify(other.pid!));
    connection.destroy();
  } finally {
    namespace.close();
  }
});

const IN_A_ROOM_OF_ITS_OWN = [
  ...['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', 'unshare', '-Urm'],
  ...['sh', '-c', 'd=$0; mount -t tmpfs none $(dirname $d) && mkdir $d && exec "$@"'],
];

/** Any user can have a socket of any path, and of a name that reads like a line of ss. */
test.skipIf(noNamespaces())('behind a connection is nobody by a decoy', async () => {
  const room = fs.mkdtempSync('/run/godwit-identity-');
  monitor = path.join(room, 'qmp');
  try {
    const server = await listen(monitor);
    await serveElsewhere([...IN_A_ROOM_OF_ITS_OWN, room]);
    const connection = await dial();
    const inode = fs.readlinkSync(`/proc/self/fd/${fdOf(connection)}`).match(/\d+/)![0];
    const liar = await listen(`\0x\nu_str ESTAB 0 0 * ${inode} * 1\n`);
    const lied = connect(`\0x\nu_str ESTAB 0 0 * ${inode} * 1\n`);
    await once(lied, 'connect');
    expect(await processBehind(connection)).toEqual(identify(process.pid));
    for (const closing of [connection, lied]) closing.destroy();
    for (const closing of [server, liar]) closing.close();
  } finally {
    fs.rmSync(room, { recursive: true });
  }
});

test('behind a connection is who was given the socket, not who has made it', async () => {
  const maker = await listen(path.join(dir, 'made'));
  const user = await serveElsewhere([], fdOf(maker));
  fs.renameSync(path.join(dir, 'made'), monitor); // its maker removes it where it was
  maker.close();
  const connection = await dial();
  expect(await processBehind(connection)).toEqual(identify(user.pid!));
  connection.destroy();
});

test('behind a connection that nobody takes up is nobody', async () => {
  const busy = await serveElsewhere([]);
  await halt(busy.pid!);
  const connection = await dial();
  expect(await processBehind(connection)).toBeUndefined();
  connection.destroy();
});

test('descends from whoever has started it', async () => {
  const script = `${process.execPath} -e 'console.log(process.pid); setInterval(() => {}, 1e6)'; :`;
  const shell = spawn('/bin/sh', ['-c', script], { stdio: ['pipe', 'pipe', 'inherit'] });
  const [said] = await once(shell.stdout, 'data');
  const pid = Number(said);
  try {
    expect(pid).not.toBe(shell.pid);
    expect(descends(pid, shell.pid!)).toBe(true);
    expect(descends(pid, process.pid)).toBe(true);
    expect(descends(shell.pid!, pid)).toBe(false);
    expect(descends(process.pid, shell.pid!)).toBe(false);
  } finally {
    process.kill(pid, 'SIGKILL');
    await once(shell, 'exit');
  }
});

test('of an earlier boot is none', () => {
  const own = identify(process.pid)!;
  expect(isAlive(own)).toBe(true);
  expect(isAlive({ ...own, bootId: bootId() })).toBe(true);
  expect(isAlive({ ...own, bootId: '00000000-0000-0000-0000-000000000000' })).toBe(false);
});

test('is known by its start, whatever it calls itself', () => {
  const { startTime } = identify(process.pid)!;
  const uptime = Number(fs.readFileSync('/proc/uptime', 'utf8').split(' ')[0]);
  expect(startTime).toBeGreaterThan(0);
  expect(startTime / 100).toBeLessThanOrEqual(uptime + 1);
  const program = path.join(dir, 'a) R 1 (b');
  fs.copyFileSync('/bin/sleep', program);
  const odd = spawn(program, ['1000']);
  try {
    expect(identify(odd.pid!)!.startTime).toBeGreaterThanOrEqual(startTime);
  } finally {
    odd.kill('SIGKILL');
  }
  expect(identify(2 ** 30)).toBeUndefined();
});

function fdOf(handle: Server | Socket): number {
  return (handle as unknown as { _handle: { fd: number } })._handle.fd;
}
