import assert from 'node:assert/strict';
import { type Bed, type Victim, WIDE } from './bed.ts';
import { mustVerify } from './verify.ts';

export interface Scenario {
  readonly name: string;
  readonly what: string;
  /** @returns what is to be read of it in the table */
  readonly run: (bed: Bed) => Promise<string>;
}

/** The one migration that agent-send has. */
const NEWEST = "$(agent-send list | awk 'NR == 2 { print $1 }')";
/** Slow enough that something can happen in the first round. */
const SLOW = `${WIDE} --bandwidth 6MiB`;

const MOVES: readonly Scenario[] = [
  {
    name: 'streams',
    what: 'an idle guest moves; what xl sent and what xl received pass verify-stream-v2',
    run: async (bed) => {
      await bed.boot();
      await bed.source.must('touch /tmp/capture');
      await bed.destination.must('touch /tmp/capture');
      const { source, destination } = bed;
      const move = bed.begin(WIDE, 'xl-capture');
      assert.equal(await move.ended(), 0, `${move.said}\n${await bed.logs()}`);
      await bed.mustRunAt(destination);
      const records = [await mustVerify(source, 'sent'), await mustVerify(destination, 'received')];
      return `${gap(bed)}; ${records.join(', ')}`;
    },
  },
  { name: 'plain', what: 'an idle guest moves', run: moved },
  { name: 'back', what: 'and back again', run: moved },
  {
    name: 'busy',
    what: 'a guest that writes all the time',
    run: async (bed) => {
      await bed.boot(1024);
      await bed.mustMove();
      return gap(bed);
    },
  },
  {
    name: 'limit',
    what: 'a limit that cannot be kept: the guest runs on where it was',
    run: (bed) =>
      stays(bed, '--max-suspend-time 150ms --abort-above 10s --timeout 20m', async () => {}),
  },
  {
    name: 'timeout',
    what: 'the time is over while the guest runs',
    run: (bed) =>
      stays(bed, '--max-suspend-time 120s --timeout 6s --bandwidth 6MiB', async () => {}),
  },
  {
    name: 'cancel',
    what: 'cancelled while the guest runs',
    run: (bed) =>
      stays(bed, SLOW, async () => {
        await bed.source.must(`agent-send cancel ${NEWEST}`);
      }),
  },
];

const HELPED = 'LIBXL_SAVE_HELPER=agent-send-helper';

const HELD: readonly Scenario[] = [
  {
    name: 'held',
    what: 'held by agent-send-helper when the rounds are over, and released',
    run: async (bed) => {
      await bed.boot();
      const { source, destination } = bed;
      const move = bed.begin(`${WIDE} --hold`, 'agent-send xl', HELPED);
      await bed.holds();
      await bed.heartbeat.beatsOn(source, 20);
      bed.heartbeat.clear();
      await source.must(`agent-send cutover --force ${NEWEST}`);
      assert.equal(await move.ended(), 0, `${move.said}\n${await bed.logs()}`);
      await bed.mustRunAt(destination);
      return gap(bed);
    },
  },
  {
    name: 'held-cancel',
    what: 'held by agent-send-helper and cancelled: never suspended',
    run: async (bed) => {
      await bed.boot();
      const { source } = bed;
      const move = bed.begin(`${WIDE} --hold`, 'agent-send xl', HELPED);
      await bed.holds();
      await source.must(`agent-send cancel ${NEWEST}`);
      assert.notEqual(await move.ended(), 0, move.said);
      await bed.mustRunAt(source);
      const note = `${said(move.said)}, ${gap(bed)}`;
      await moved(bed);
      return `stays: ${note}; the next one moves`;
    },
  },
];

/** Kills while the guest runs: it stays. */
const EARLY: readonly [name: string, victim: Victim, side: 'source' | 'destination'][] = [
  ['kill-xl', 'xl', 'source'],
  ['kill-helper', 'save helper', 'source'],
  ['kill-transport', 'agent-send xl', 'source'],
  ['kill-send', 'agent-send', 'source'],
  ['kill-recv', 'agent-recv', 'destination'],
  ['kill-receive', 'migrate-receive', 'destination'],
];

const KILLS: readonly Scenario[] = EARLY.map(([name, victim, side]) => ({
  name,
  what: `${victim} is killed while the guest runs`,
  run: (bed) =>
    stays(bed, SLOW, async () => {
      const host = bed[side];
      await bed.strike(host, victim);
      if (victim === 'agent-send') await bed.startAgent(host, 'send');
      if (victim === 'agent-recv') await bed.startAgent(host, 'recv');
    }),
}));

/** Kills while it stands, each at a moment at which an agent has stopped itself. */
const LATE: readonly Scenario[] = [
  {
    name: 'late-transport',
    what: 'agent-send xl is killed while the guest stands',
    run: (bed) =>
      struck(bed, 'send', 'stop@source.after.suspend-guest', async () => {
        await bed.strike(bed.source, 'agent-send xl');
      }),
  },
  {
    name: 'late-receive',
    what: 'xl migrate-receive is killed while the guest stands',
    run: (bed) =>
      struck(bed, 'send', 'stop@source.after.suspend-guest', async () => {
        await bed.strike(bed.destination, 'migrate-receive');
      }),
  },
  {
    name: 'late-xl',
    what: 'xl is killed when it has said GO',
    run: (bed) =>
      struck(bed, 'send', 'stop@source.before.journal-committed', async () => {
        await bed.strike(bed.source, 'xl');
      }),
  },
  {
    name: 'late-send',
    what: 'agent-send dies with its commit in the journal',
    run: async (bed) => {
      await bed.boot();
      await bed.startAgent(bed.source, 'send', 'kill@source.after.journal-committed');
      const move = bed.begin(WIDE);
      await bed.dies(bed.source, 'agent-send');
      await bed.startAgent(bed.source, 'send');
      return concluded(bed, await move.ended());
    },
  },
  {
    name: 'late-recv',
    what: 'agent-recv dies before it has handed GO over',
    run: async (bed) => {
      await bed.boot();
      await bed.startAgent(bed.destination, 'recv', 'kill@destination.after.journal-running');
      const move = bed.begin(WIDE);
      await bed.dies(bed.destination, 'agent-recv');
      await bed.startAgent(bed.destination, 'recv');
      return concluded(bed, await move.ended());
    },
  },
  {
    name: 'answer-lost',
    what: 'the wire is cut when the guest runs and nobody has heard',
    run: async (bed) => {
      await bed.boot();
      const { destination } = bed;
      await bed.startAgent(destination, 'recv', 'stop@destination.after.resume-guest');
      const move = bed.begin(WIDE);
      await bed.standsStill(destination, 'agent-recv');
      await destination.must('ifconfig eth1 down');
      await bed.kill(destination, 'agent-recv', 'CONT');
      await bed.heartbeat.beatsOn(destination);
      await destination.must(
        `ifconfig eth1 10.9.0.${destination.name === 'hosta' ? 1 : 2} netmask 255.255.255.0 up`,
      );
      return concluded(bed, await move.ended());
    },
  },
  {
    name: 'left-suspended',
    what: 'xl is killed while the guest stands: this Xen has no xl resume',
    run: async (bed) => {
      await bed.boot();
      const { source } = bed;
      await bed.startAgent(source, 'send', 'stop@source.after.suspend-guest');
      const move = bed.begin(WIDE);
      await bed.standsStill(source, 'agent-send');
      await bed.strike(source, 'xl');
      await move.ended();
      await bed.kill(source, 'agent-send', 'CONT');
      await bed.mustRunAt(source);
      const note = gap(bed);
      await moved(bed);
      return `resumed by the agent, ${note}`;
    },
  },
];

export const SCENARIOS: readonly Scenario[] = [...MOVES, ...HELD, ...KILLS, ...LATE];

async function moved(bed: Bed): Promise<string> {
  await bed.boot();
  await bed.mustMove();
  return gap(bed);
}

/** A move that comes to nothing once `strike` has struck in its first round, and the next one, which moves. */
async function stays(bed: Bed, options: string, strike: () => Promise<void>): Promise<string> {
  await bed.boot();
  const { source } = bed;
  const move = bed.begin(options);
  await move.says(/round 1/);
  await strike();
  const code = await move.ended();
  assert.notEqual(code, 0, `it has moved\n${move.said}`);
  await bed.mustRunAt(source);
  const note = `${said(move.said)}, ${gap(bed)}`;
  await moved(bed);
  return `stays: ${note}; the next one moves`;
}

/** A move that is struck when the agent of a side has stopped itself there. */
async function struck(
  bed: Bed,
  role: 'send' | 'recv',
  fault: string,
  strike: () => Promise<void>,
): Promise<string> {
  await bed.boot();
  const host = role === 'send' ? bed.source : bed.destination;
  await bed.startAgent(host, role, fault);
  const move = bed.begin(WIDE);
  await bed.standsStill(host, `agent-${role}`);
  await strike();
  await bed.kill(host, `agent-${role}`, 'CONT');
  return concluded(bed, await move.ended());
}

/** It runs at one of them; the next move moves it. */
async function concluded(bed: Bed, code: number): Promise<string> {
  const { source } = bed;
  const host = await bed.mustRunSomewhere();
  const note = `${host === source ? 'stays' : 'moves'}, xl exits with ${code}, ${gap(bed)}`;
  await moved(bed);
  return `${note}; the next one moves`;
}

function gap(bed: Bed): string {
  const { ms } = bed.heartbeat.longestGap();
  return `no beat for ${(ms / 1000).toFixed(2)} s`;
}

/** The word that tells xl's ends apart. */
function said(text: string): string {
  const words = ['Resumed OK', 'resuming at sender', 'failed to suspend at sender'];
  return words.find((one) => text.includes(one)) ?? 'xl ends';
}
