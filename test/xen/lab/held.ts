import assert from 'node:assert/strict';
import { concluded, gap, type Scenario, said } from './attempt.ts';
import { type Bed, type Move, type Victim, WIDE } from './bed.ts';

/** With a helper of ours between libxl and its own. */
const HELPED = { command: 'LIBXL_SAVE_HELPER=agent-send-helper xl migrate' };

/** What may die while a guest is held. */
const VICTIMS: readonly [victim: Victim, side: 'source' | 'destination'][] = [
  ['xl', 'source'],
  ['save helper', 'source'],
  ['agent-send-helper', 'source'],
  ['agent-send xl', 'source'],
  ['migrate-receive', 'destination'],
  ['agent-recv', 'destination'],
  ['agent-send', 'source'],
];

/** With agent-send-helper, which knows the rounds and has the suspension wait. */
export const HELD: readonly Scenario[] = [
  {
    name: 'held',
    what: 'held when the rounds are over, and released',
    run: async (bed) => {
      const move = await held(bed);
      const { source, destination } = bed;
      await bed.heartbeat.beatsOn(source, 20);
      bed.heartbeat.clear();
      await source.must(`agent-send cutover --force ${await bed.newest()}`);
      assert.equal(await move.ended(), 0, `${move.said}\n${await bed.logs()}`);
      await bed.mustRunAt(destination);
      return gap(bed);
    },
  },
  {
    name: 'held-cancel',
    what: 'held and cancelled: never suspended',
    run: async (bed) => {
      const move = await held(bed);
      const { source } = bed;
      await source.must(`agent-send cancel ${await bed.newest()}`);
      assert.notEqual(await move.ended(), 0, move.said);
      assert.match(move.said, /failed to suspend at sender/);
      await bed.mustRunAt(source);
      return `never suspended, ${gap(bed)}`;
    },
  },
  {
    name: 'held-limit',
    what: 'a limit that is not to be kept: never suspended',
    run: async (bed) => {
      await bed.boot();
      const { source } = bed;
      const move = bed.begin('--max-suspend-time 100ms --timeout 20m', HELPED);
      assert.notEqual(await move.ended(), 0, move.said);
      assert.match(move.said, /failed to suspend at sender/);
      await bed.mustRunAt(source);
      return `never suspended, ${gap(bed)}`;
    },
  },
  {
    name: 'held-kills',
    what: `each of ${VICTIMS.length} processes is killed while it is held: never suspended`,
    run: async (bed) => {
      const notes: string[] = [];
      for (const [victim, side] of VICTIMS) {
        const move = await held(bed);
        const { source } = bed;
        await bed.strike(bed[side], victim);
        if (victim === 'agent-recv') await bed.startAgent(bed.destination, 'recv');
        if (victim === 'agent-send') await bed.startAgent(source, 'send');
        assert.notEqual(await move.ended(), 0, `${victim}: it has moved\n${move.said}`);
        const why = `${victim}:\n${move.said}\n${await bed.logs()}`;
        // Of a helper that is gone xl knows nothing: it would resume the guest, which does not stand.
        if (victim.includes('helper')) assert.match(move.said, /not suspended/, why);
        else assert.doesNotMatch(move.said, /Resumed OK|resuming at sender/, why);
        await bed.mustRunAt(source);
        notes.push(`${victim} ${gap(bed)}`);
      }
      return notes.join(', ');
    },
  },
  {
    name: 'late-helper',
    what: "Xen's save helper is killed when it was told that the guest stands",
    run: async (bed) => {
      const move = await held(bed);
      const { source } = bed;
      await bed.kill(source, 'save helper', 'STOP');
      await source.must(`agent-send cutover --force ${await bed.newest()}`);
      await source.until("xl list | grep -q '^g1 .* ---ss- '", 'the guest stands');
      await bed.kill(source, 'save helper');
      return `${await concluded(bed, move, 'stays')} (${said(move.said)})`;
    },
  },
];

/** Begins a move, which is held. */
async function held(bed: Bed): Promise<Move> {
  await bed.boot();
  const move = bed.begin(`${WIDE} --hold`, HELPED);
  await bed.holds();
  return move;
}
