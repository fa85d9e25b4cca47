/**
 * `npm run demo`: both daemons on this machine, a busy 512 MiB simulated guest, one migration under
 * the contract. Exits with the migration's exit code, or 1 when the guest finds its memory wrong.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { bootSimulatedGuest } from '../lib/guest/simulated/boot.ts';
import { ControlClient } from '../lib/guest/simulated/control-client.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const dir = await mkdtemp(path.join(os.tmpdir(), 'godwit-demo-'));
const sendSocket = path.join(dir, 'agent-send.sock');
const sourceDir = path.join(dir, 'source');
const destinationDir = path.join(dir, 'destination');
const daemons: ChildProcess[] = [];

/** Runs the command that a person would type; resolves to its exit code. */
async function type(command: string, ...args: string[]): Promise<number> {
  console.log(`\n$ ${command} ${args.join(' ')}`);
  const child = spawn(path.join(root, command, command), args, {
    stdio: 'inherit',
    env: { ...process.env, GODWIT_SEND_SOCKET: sendSocket },
  });
  const [code] = await once(child, 'exit');
  return code ?? 1;
}

/** Starts a daemon and waits for the log line that says it is ready, which it returns. */
async function serve(agent: 'agent-send' | 'agent-recv', ...args: string[]): Promise<string> {
  console.log(`$ ${agent} serve ${args.join(' ')} &`);
  const command = path.join(root, agent, agent);
  const state = ['--state-dir', path.join(dir, agent)];
  const child = spawn(command, ['serve', ...state, ...args], {
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  daemons.push(child);
  for await (const line of createInterface({ input: child.stderr! })) {
    if (line.includes('ready')) {
      child.stderr!.resume(); // its log is not the demo's
      return line;
    }
    console.error(line);
  }
  throw new Error(`${agent} did not start`);
}

/** Asks the guest to check every page of its memory, and ends it. */
async function checkAndEnd(guestDir: string): Promise<boolean> {
  const guest = await ControlClient.connect(path.join(guestDir, 'vm1.sock'), 'vm1');
  const check = await guest.execute<{ pages: number; bad: number; clean: boolean }>('self-check');
  console.log(
    `\nguest vm1 checked its ${check.pages} pages: ${check.clean ? 'all as it wrote them' : `${check.bad} WRONG`}`,
  );
  await guest.execute('quit').catch(() => {}); // it is gone before it can answer
  return check.clean;
}

let code = 1;
try {
  const recv = ['--listen', '127.0.0.1:0', '--guest-dir', destinationDir];
  const ready = await serve('agent-recv', ...recv, '--socket', path.join(dir, 'agent-recv.sock'));
  await serve('agent-send', '--guest-dir', sourceDir, '--socket', sendSocket);
  const port = /port (\d+)/.exec(ready)![1];
  console.log('booting guest vm1: 512 MiB, 2 vCPUs, a hot set rewritten at 5,000 pages/s');
  const workload = { workload: 'hot-set', rate: 5000, workingSet: '64MiB' };
  await bootSimulatedGuest({ name: 'vm1', dir: sourceDir, memory: '512MiB', ...workload });
  code = await type('agent-send', 'migrate', 'vm1', `127.0.0.1:${port}`);
  const clean = await checkAndEnd(code === 0 ? destinationDir : sourceDir);
  if (!clean) code = 1;
  const report = path.resolve('godwit-demo.html');
  const [ledger] = await readdir(path.join(dir, 'agent-send', 'ledgers'));
  const id = ledger!.replace('.ndjson', '');
  await type('agent-send', 'report', id, '--output', report);
} finally {
  for (const daemon of daemons) {
    daemon.kill('SIGTERM');
    await once(daemon, 'exit');
  }
  await rm(dir, { recursive: true, force: true });
}
process.exit(code);
