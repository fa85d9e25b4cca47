import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { bootSimulatedGuest } from '../../lib/guest/simulated/boot.ts';
import { ControlClient } from '../../lib/guest/simulated/control-client.ts';
import type { MigrationView } from '../../lib/migration/view.ts';
import { poll } from '../../lib/poll.ts';
import { readLedger } from '../../lib/report/ledger.ts';
import type { Network, Place } from './network.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** What one migration by fresh daemons showed. */
export interface Move {
  /** From the first page to the end of the last round, ms: what a plain copy is compared with. */
  readonly streamMs: number;
  /** From the request to the end, as the operator waits for it, ms. */
  readonly totalMs: number;
  readonly wireBytes: number;
  readonly suspensionMs: number;
  readonly outcome: string;
  /** Peak resident memory of the agents, bytes. */
  readonly sendRss: number;
  readonly recvRss: number;
}

/** A guest that runs; disposing of it ends it wherever it has not moved from. */
export interface Guest extends AsyncDisposable {
  readonly dir: string;
  readonly ram: string;
  readonly memoryBytes: number;
}

/** A running guest in a directory of its own. */
export async function boot(
  memoryMiB: number,
  workload: Record<string, string | number>,
): Promise<Guest> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-bench-'));
  await bootSimulatedGuest({ name: 'bench', dir, memory: `${memoryMiB}MiB`, ...workload });
  return {
    dir,
    ram: fs.realpathSync(path.join(dir, 'bench.ram')),
    memoryBytes: memoryMiB * 2 ** 20,
    [Symbol.asyncDispose]: () =>
      quit(dir).finally(() => fs.rmSync(dir, { recursive: true, force: true })),
  };
}

/** Moves the guest over the network with fresh daemons; the moved guest is checked and ended. */
export async function move(guest: Guest, network: Network, ...options: string[]): Promise<Move> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-bench-'));
  const socket = path.join(dir, 'send.sock');
  const { source, destination } = network;
  const recv = daemon(destination, 'agent-recv', [
    ...['--listen', `${destination.address}:0`, '--socket', path.join(dir, 'recv.sock')],
    ...['--guest-dir', dir, '--state-dir', path.join(dir, 'recv-state')],
    ...['--host-dir', path.join(dir, 'recv-host')],
  ]);
  const sendState = path.join(dir, 'send-state');
  const send = daemon(source, 'agent-send', [
    ...['--socket', socket, '--guest-dir', guest.dir, '--state-dir', sendState],
    ...['--host-dir', `${sendState}-host`],
  ]);
  try {
    const port = /port (\d+)/.exec(await ready(recv))![1];
    await ready(send);
    const target = `${destination.address}:${port}`;
    const cli = spawn(
      process.execPath,
      [
        path.join(root, 'agent-send/main.ts'),
        ...['migrate', 'bench', target, '--socket', socket, '--json', ...options],
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    let last = '';
    for await (const line of createInterface({ input: cli.stdout })) last = line;
    const view = JSON.parse(last) as MigrationView;
    const ledger = await readLedger(path.join(sendState, 'ledgers', `${view.id}.ndjson`));
    const rounds = ledger.filter((record) => record.type === 'round');
    const result = {
      streamMs: (rounds.at(-1)?.at ?? 0) - ((rounds[0]?.at ?? 0) - (rounds[0]?.ms ?? 0)),
      totalMs: view.elapsedMs,
      wireBytes: view.wireBytes,
      suspensionMs: view.suspension?.guestMs ?? Number.NaN,
      outcome: view.outcome!,
      sendRss: peakRss(send),
      recvRss: peakRss(recv),
    };
    return result;
  } finally {
    for (const child of [send, recv]) {
      if (child.exitCode !== null || child.signalCode !== null) continue; // it did not start
      const exit = once(child, 'exit');
      child.kill('SIGTERM');
      await exit;
    }
    await quit(dir).finally(() => fs.rmSync(dir, { recursive: true, force: true }));
  }
}

/** Copies a file over the network with public tools, the way of a plain administrator; ms. */
export async function copy(file: string, network: Network, zstd: boolean): Promise<number> {
  const { source, destination } = network;
  const to = `/dev/shm/godwit-bench-copy-${process.pid}`;
  const port = 20_000 + Math.floor(Math.random() * 20_000);
  const listen = `socat -u TCP-LISTEN:${port},bind=${destination.address},reuseaddr -`;
  const connect = `socat -u - TCP:${destination.address}:${port},retry=50,interval=0.02`;
  const receiver = shell(
    destination,
    zstd
      ? `${listen} | zstd -d -c > ${to}`
      : `socat -u TCP-LISTEN:${port},bind=${destination.address},reuseaddr OPEN:${to},creat,trunc`,
  );
  const received = once(receiver, 'exit');
  const started = performance.now();
  const sender = shell(
    source,
    zstd
      ? `zstd -1 -c < ${file} | ${connect}`
      : `socat -u FILE:${file} TCP:${destination.address}:${port},retry=50,interval=0.02`,
  );
  await once(sender, 'exit');
  await received;
  const ms = performance.now() - started;
  const same = fs.statSync(to).size === fs.statSync(file).size;
  fs.rmSync(to);
  if (!same) throw new Error('the plain copy is not complete');
  return ms;
}

function shell(place: Place, command: string): ChildProcess {
  const [program, ...args] = [...place.prefix, 'sh', '-c', command];
  return spawn(program!, args, { stdio: 'inherit' });
}

function daemon(place: Place, agent: string, args: readonly string[]): ChildProcess {
  const node = [
    process.execPath,
    path.join(root, agent, 'main.ts'),
    'serve',
    '--insecure',
    ...args,
  ];
  // `ip netns exec` replaces itself, so the pid is the daemon's own.
  const [program, ...rest] = [...place.prefix, ...node];
  return spawn(program!, rest, { stdio: ['ignore', 'ignore', 'pipe'] });
}

async function ready(child: ChildProcess): Promise<string> {
  let log = '';
  for await (const line of createInterface({ input: child.stderr! })) {
    log += `${line}\n`;
    if (!line.includes('ready')) continue;
    child.stderr!.resume();
    return line;
  }
  throw new Error(`the daemon did not start: ${log}`);
}

function peakRss(child: ChildProcess): number {
  const status = fs.readFileSync(`/proc/${child.pid}/status`, 'utf8');
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)![1]) * 1024;
}

async function quit(dir: string): Promise<void> {
  const socket = path.join(dir, 'bench.sock');
  if (!fs.existsSync(socket)) return; // it is not here
  const guest = await ControlClient.connect(socket, 'bench');
  const check = await guest.execute<{ clean: boolean; bad: number }>('self-check');
  if (!check.clean) throw new Error(`the guest finds ${check.bad} wrong pages`);
  const { pid } = await guest.execute<{ pid: number }>('query-guest');
  const closed = new Promise<void>((resolve) => guest.onClose(() => resolve()));
  await guest.execute('quit').catch(() => {}); // it may be gone before it has answered
  await closed;
  // What is removed under its hands stays behind in part.
  if (!(await poll(10_000, 10, () => !fs.existsSync(`/proc/${pid}`) || undefined)))
    throw new Error('the guest does not end');
}
