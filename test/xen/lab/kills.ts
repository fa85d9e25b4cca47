import assert from 'node:assert/strict';
import { concluded, gap, moved, type Scenario, SLOW, said, stays } from './attempt.ts';
import { type Role, type Victim, WIDE } from './bed.ts';

type Side = 'source' | 'destination';

/** Kills while the guest runs: it stays. */
const EARLY: readonly [name: string, victim: Victim, side: Side][] = [
  ['kill-xl', 'xl', 'source'],
  ['kill-helper', 'save helper', 'source'],
  ['kill-transport', 'agent-send xl', 'source'],
  ['kill-send', 'agent-send', 'source'],
  ['kill-recv', 'agent-recv', 'destination'],
  ['kill-receive', 'migrate-receive', 'destination'],
];

const WHILE_IT_RUNS: readonly Scenario[] = EARLY.map(([name, victim, side]) => ({
  name,
  what: `${victim} is killed while the guest runs`,
  run: (bed) =>
    stays(bed, SLOW, /round 1/, async () => {
      const host = bed[side];
      await bed.strike(host, victim);
      if (victim === 'agent-send') await bed.startAgent(host, 'send');
      if (victim === 'agent-recv') await bed.startAgent(host, 'recv');
    }),
}));

interface Late {
  readonly name: string;
  readonly what: string;
  /** Of the agent that dies or stops there, as GODWIT_FAULT. */
  readonly fault: string;
  /** What is killed while that agent stands still. */
  readonly victim?: [Victim, Side];
  /** Where the guest must run in the end; either when that is not decided by then. */
  readonly ends?: 'stays' | 'moves';
}

/** Kills while it stands, each at a moment at which an agent has stopped or ended itself. */
const LATE: readonly Late[] = [
  {
    name: 'late-transport',
    what: 'agent-send xl is killed while the guest stands',
    fault: 'stop@source.after.suspend-guest',
    victim: ['agent-send xl', 'source'],
    ends: 'stays',
  },
  {
    name: 'late-receive',
    what: 'xl migrate-receive is killed while the guest stands',
    fault: 'stop@source.after.suspend-guest',
    victim: ['migrate-receive', 'destination'],
    ends: 'stays',
  },
  {
    name: 'late-loaded',
    what: 'xl migrate-receive is killed with the guest loaded',
    fault: 'stop@destination.after.journal-prepared',
    victim: ['migrate-receive', 'destination'],
  },
  {
    name: 'late-xl',
    what: 'xl is killed when it has said GO: its domain is one that has migrated away',
    fault: 'stop@source.after.journal-committed',
    victim: ['xl', 'source'],
    ends: 'moves',
  },
  {
    name: 'late-undecided',
    what: 'agent-send dies with GO, and without its commit in the journal',
    fault: 'kill@source.before.journal-committed',
    ends: 'stays',
  },
  {
    name: 'late-send',
    what: 'agent-send dies with its commit in the journal',
    fault: 'kill@source.after.journal-committed',
    ends: 'moves',
  },
  {
    name: 'late-recv',
    what: 'agent-recv dies before it has handed GO over',
    fault: 'kill@destination.after.journal-running',
    ends: 'moves',
  },
  {
    name: 'late-ran',
    what: 'agent-recv dies when the guest runs and nobody has heard',
    fault: 'kill@destination.after.resume-guest',
    ends: 'moves',
  },
];

const WHILE_IT_STANDS: readonly Scenario[] = LATE.map(({ name, what, fault, victim, ends }) => ({
  name,
  what,
  run: async (bed) => {
    await bed.boot();
    const role: Role = fault.includes('@source') ? 'send' : 'recv';
    const agent = `agent-${role}` as const;
    const host = role === 'send' ? bed.source : bed.destination;
    await bed.startAgent(host, role, fault);
    const move = bed.begin(WIDE);
    if (fault.startsWith('kill')) {
      await bed.dies(host, role);
      await bed.startAgent(host, role);
    } else {
      await bed.standsStill(host, role);
      await bed.strike(bed[victim![1]], victim![0]);
      await bed.kill(host, agent, 'CONT');
    }
    return concluded(bed, move, ends);
  },
}));

const OTHERS: readonly Scenario[] = [
  {
    name: 'answer-lost',
    what: 'the wire is cut when the guest runs and nobody has heard',
    run: async (bed) => {
      await bed.boot();
      const { destination } = bed;
      await bed.startAgent(destination, 'recv', 'stop@destination.after.resume-guest');
      const move = bed.begin(WIDE);
      await bed.standsStill(destination, 'recv');
      await destination.must('ifconfig eth1 down');
      await bed.kill(destination, 'agent-recv', 'CONT');
      await bed.heartbeat.beatsOn(destination);
      const address = `10.9.0.${destination.name === 'hosta' ? 1 : 2}`;
      await destination.must(`ifconfig eth1 ${address} up`);
      return concluded(bed, move, 'moves');
    },
  },
  {
    name: 'left-suspended',
    what: 'xl is killed while the guest stands, and nobody of Xen resumes it',
    run: async (bed) => {
      await bed.boot();
      const { source } = bed;
      await bed.startAgent(source, 'send', 'stop@source.after.suspend-guest');
      const move = bed.begin(WIDE);
      await bed.standsStill(source, 'send');
      await bed.strike(source, 'xl');
      await move.ended();
      await bed.kill(source, 'agent-send', 'CONT');
      await bed.mustRunAt(source);
      const note = gap(bed);
      await moved(bed); // what was not resumed whole cannot be suspended again
      return `resumed by the agent, ${note}; the next one moves`;
    },
  },
  {
    name: 'destroyed',
    what: 'the guest is destroyed while it moves: it is nowhere, and nothing is open',
    run: async (bed) => {
      await bed.boot();
      const move = bed.begin(SLOW);
      await move.says(/round 1/);
      await bed.source.must('xl destroy g1');
      assert.notEqual(await move.ended(), 0, move.said);
      await bed.mustBeNowhere();
      return said(move.said);
    },
  },
];

export const KILLS: readonly Scenario[] = [...WHILE_IT_RUNS, ...WHILE_IT_STANDS, ...OTHERS];
