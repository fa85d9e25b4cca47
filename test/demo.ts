/**
 * `npm run demo`: both daemons on this machine, a busy 512 MiB simulated guest, one migration under
 * the contract, whose limits are changed while it goes on. On a terminal the page of agent-send stays
 * until Enter is pressed. Exits with the migration's exit code, or 1 when the guest finds its memory wrong.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ControlClient as AgentClient } from '../lib/cli/client.ts';
import { bootSimulatedGuest } from '../lib/guest/simulated/boot.ts';
import { ControlClient } from '../lib/guest/simulated/control-client.ts';
import type { MigrationView } from '../lib/migration/view.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const dir = await mkdtemp(path.join(os.tmpdir(), 'godwit-demo-'));
const sendSocket = path.join(dir, 'agent-send.sock');
const sourceDir = path.join(dir, 'source');
const destinationDir = path.join(dir, 'destination');
const daemons: ChildProcess[] = [];

/** A move that can be watched, and how long it is left like that, ms. */
const SLOW = '25MB/s';
const WATCHED_MS = 4000;

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

/** Starts a daemon and returns what it logs, up to the line that says it is ready. */
async function serve(agent: 'agent-send' | 'agent-recv', ...args: string[]): Promise<string> {
  console.log(`$ ${agent} serve ${args.join(' ')} &`);
  const command = path.join(root, agent, agent);
  const host = path.join(dir, `${agent}-host`); // each stands for a host of its own
  const state = ['--state-dir', path.join(dir, agent), '--host-dir', host];
  const child = spawn(command, ['serve', ...state, ...args], {
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  daemons.push(child);
  const lines: string[] = [];
  for await (const line of createInterface({ input: child.stderr! })) {
    lines.push(line);
    if (!line.includes('ready')) continue;
    child.stderr!.resume(); // its log is not the demo's
    return lines.join('\n');
  }
  throw new Error(`${agent} did not start: ${lines.join('\n')}`);
}

/** As somebody does who has watched the move for a while. */
async function speedUp(): Promise<void> {
  await sleep(WATCHED_MS);
  const client = new AgentClient(sendSocket, 'agent-send');
  const { migrations } = await client.request<{ migrations: MigrationView[] }>(
    'GET',
    '/migrations',
  );
  const moving = migrations.find(({ phase }) => phase === 'precopy');
  if (moving === undefined) return; // a fast machine is through already
  await type('agent-send', 'set', moving.id, '--bandwidth', 'none', '--max-suspend-time', '500ms');
}

/** Until somebody has seen enough; nobody is waited for where nobody sits. */
async function seen(): Promise<void> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) return;
  console.log('Enter ends the demo.');
  await Promise.race([once(process.stdin, 'data'), once(process, 'SIGINT')]);
  process.stdin.destroy();
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
  const send = ['--guest-dir', sourceDir, '--socket', sendSocket, '--web', '127.0.0.1:0'];
  const page = /page on (\S+)/.exec(await serve('agent-send', ...send))![1];
  const port = /port (\d+)/.exec(ready)![1];
  console.log('booting guest vm1: 512 MiB, 2 vCPUs, a hot set rewritten at 5,000 pages/s');
  const workload = { workload: 'hot-set', rate: 5000, workingSet: '64MiB' };
  await bootSimulatedGuest({ name: 'vm1', dir: sourceDir, memory: '512MiB', ...workload });
  const moved = type('agent-send', 'migrate', 'vm1', `127.0.0.1:${port}`, '--bandwidth', SLOW);
  const [exit] = await Promise.all([moved, speedUp()]);
  code = exit;
  const clean = await checkAndEnd(code === 0 ? destinationDir : sourceDir);
  if (!clean) code = 1;
  const report = path.resolve('godwit-demo.html');
  const [ledger] = await readdir(path.join(dir, 'agent-send', 'ledgers'));
  const id = ledger!.replace('.ndjson', '');
  await type('agent-send', 'report', id, '--output', report);
  console.log(`\nthe page of agent-send: ${page}`);
  await seen();
} finally {
  for (const daemon of daemons) {
    if (daemon.exitCode !== null || daemon.signalCode !== null) continue; // Ctrl-C is for all
    daemon.kill('SIGTERM');
    await once(daemon, 'exit');
  }
  await rm(dir, { recursive: true, force: true });
}
process.exit(code);
