/**
 * `npm run demo:qemu`: both daemons on this machine, a small Linux guest under QEMU that is busy
 * with its memory, one migration under the contract. Exits with 0 only when the guest has moved and
 * found nothing wrong; with 130 after Ctrl-C.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { MigrationView } from '../../lib/migration/view.ts';
import { formatDuration } from '../../lib/units.ts';
import { Cleanup } from './bench-cleanup.ts';
import { DemoSite } from './demo-site.ts';
import { kernelRelease, whyNoQemu } from './guest/installed.ts';
import type { ConsoleLine, SerialConsole } from './guest/serial-console.ts';
import { fullCheck, switchoverGap, verdict } from './guest/witness.ts';

/** Generous, for machines that are busy with other things: it is enforced. */
const LIMIT_MS = 1000;
const LINES_SHOWN = 5;

const program = fileURLToPath(new URL('../../agent-send/agent-send', import.meta.url));

const why = whyNoQemu();
if (why !== undefined) {
  console.error(`the demo needs QEMU, a kernel and busybox: ${why}`);
  console.error('(Debian packages, unpacked under /opt/godwit-qemu; nothing else is changed)');
  process.exit(1);
}

const cleanup = new Cleanup();
cleanup.endOnSignal();
const site = new DemoSite(cleanup);
let right = false;
try {
  right = await demonstrate();
} finally {
  await cleanup.end();
}
process.exit(right ? 0 : 1);

async function demonstrate(): Promise<boolean> {
  await boot();
  const { hosts, guest, destination } = site;
  await type('guests');
  const code = await type('migrate', 'vm1', hosts.target, '--max-suspend-time', `${LIMIT_MS}ms`);
  const source = guest.site.console;
  if (code !== 0) {
    showLines('its console at the source goes on', source.lines.slice(-LINES_SHOWN));
    return false;
  }
  await destination.console.line(/^beat/, { from: 0, count: LINES_SHOWN });
  showLines('the last of its console at the source', source.lines.slice(-LINES_SHOWN));
  showLines('and at the destination it goes on', destination.console.lines.slice(0, LINES_SHOWN));
  await showSuspension();
  return showVerdict(source);
}

async function boot(): Promise<void> {
  console.log(`starting agent-recv, agent-send and QEMU with Linux ${kernelRelease()}`);
  await site.start();
  const { guest } = site;
  const { memoryMiB, workload } = guest.site.shape;
  await guest.booted();
  console.log(
    `guest vm1 under QEMU ${guest.qmp.version} has ${memoryMiB} MiB; it rewrites ` +
      `${workload.dirtyPagesPerSecond} pages/s of ${workload.checkedMiB} MiB, checks them and a file, ` +
      `and says a beat every ${workload.beatMs} ms`,
  );
  showLines('its console', guest.site.console.lines.slice(-LINES_SHOWN));
}

/** Runs what a person would type; resolves to its exit code. */
async function type(...words: string[]): Promise<number> {
  console.log(`\n$ agent-send ${words.join(' ')}`);
  const child = spawn(program, words, {
    stdio: 'inherit',
    env: { ...process.env, GODWIT_SEND_SOCKET: site.hosts.socketOf('source') },
  });
  cleanup.defer(() => {
    child.kill();
  });
  const [code] = await once(child, 'exit');
  return code ?? 1;
}

function showLines(title: string, lines: readonly ConsoleLine[]): void {
  console.log(`\n${title}:`);
  for (const { text } of lines) console.log(`  | ${text}`);
}

/** The same suspension as everyone saw it. @returns as the guest's heartbeats did, ms */
async function showSuspension(): Promise<void> {
  const { guest, destination, hosts, watch } = site;
  const { stdout } = await hosts.run(['list', '--json']);
  const { migrations } = JSON.parse(stdout) as { migrations: MigrationView[] };
  const gap = switchoverGap(guest.site.console, destination.console);
  const beats = `from beat ${gap.from.number} to ${gap.to.number}`;
  const rows: [who: string, ms: number | undefined, how: string][] = [
    ['its heartbeat', gap.hostMs, `${beats}; ${formatDuration(gap.guestMs)} on its own clock`],
    ['the agents', migrations[0]?.suspension?.agentMs, 'from its last instruction to Running'],
    ["QEMU's events", watch.eventsMs, 'from STOP at the source to RESUME at the destination'],
    ["QEMU's own count", watch.downtimeMs, '"downtime" of query-migrate at the source'],
  ];
  console.log(`\nhow long the guest was suspended, of ${LIMIT_MS} ms allowed, by`);
  for (const [who, ms, how] of rows) {
    const text = ms === undefined ? 'not heard: that QEMU was gone' : formatDuration(ms);
    console.log(`  ${who.padEnd(18)}${text.padEnd(10)}${how}`);
  }
}

/** What the guest says after it has checked everything once more. */
async function showVerdict(source: SerialConsole): Promise<boolean> {
  await fullCheck(site.destination);
  const { clean, bad, beats, pageChecks, fileChecks } = verdict(source, site.destination.console);
  console.log(
    `\nguest vm1: ${beats.length} beats, its pages checked ${pageChecks} times and its file ` +
      `${fileChecks} times: ${clean ? 'nothing lost, nothing wrong' : 'WRONG'}`,
  );
  for (const line of bad) console.log(`  ${line}`);
  return clean;
}
