import { describe, expect, test } from 'vitest';
import { DESTINATION_MACHINE } from '../../lib/handover/destination-machine.ts';
import { SOURCE_MACHINE } from '../../lib/handover/source-machine.ts';
import { newTally, runSchedule, type ScheduleOptions } from './simulator.ts';

const SCHEDULES = 3000;

async function many(options: Partial<ScheduleOptions> = {}, first = 1) {
  const tally = newTally();
  for (let seed = first; seed < first + SCHEDULES; seed++)
    await runSchedule({ tally, seed, faults: seed % 7, person: seed % 5 === 0, ...options });
  return tally;
}

describe('the promise holds', () => {
  test('in schedules that meet everything that can happen', async () => {
    const tally = await many();
    for (const [count, value] of Object.entries(tally)) expect(value, count).toBeGreaterThan(0);
  });

  test('in schedules that nobody has seen', async () => {
    await many({}, Math.floor(Math.random() * 2 ** 31)); // a failure names its seed
  });

  test('with a crash of either side at each of its operations', async () => {
    const tally = newTally();
    for (const side of ['source', 'destination'] as const)
      for (let operation = 0; operation < 12; operation++)
        for (let seed = 0; seed < 20; seed++)
          await runSchedule({ seed, tally, crashAt: { side, operation } });
    expect(tally.crashes).toBeGreaterThan(100);
  });
});

describe('a planted bug is found:', () => {
  const brokenSource = (change: (step: typeof SOURCE_MACHINE.step) => typeof SOURCE_MACHINE.step) =>
    many({ sourceMachine: { ...SOURCE_MACHINE, step: change(SOURCE_MACHINE.step) } });
  const allowed = {
    ...SOURCE_MACHINE.proof,
    'resume-guest': undefined,
    'release-guest': undefined,
  };

  test('the source resumes when the connection is lost after commit', async () => {
    const step: typeof SOURCE_MACHINE.step = (state, event) =>
      state.name === 'committed' && event.type === 'lost'
        ? SOURCE_MACHINE.step({ ...state, name: 'suspended' }, event)
        : SOURCE_MACHINE.step(state, event);
    await expect(many({ sourceMachine: { step, proof: allowed } })).rejects.toThrow(
      /two copies run/,
    );
    // The driver alone sees it, too.
    await expect(brokenSource(() => step)).rejects.toThrow(/while the journal says committed/);
  });

  test('the source commits with a copy that its hypervisor may still resume', async () => {
    const step: typeof SOURCE_MACHINE.step = (state, event) =>
      SOURCE_MACHINE.step(
        state,
        event.type === 'prepared' ? { ...event, type: 'sealed', late: undefined } : event,
      );
    await expect(brokenSource(() => step)).rejects.toThrow(/two copies run/);
  });

  test('the source releases its copy when it commits', async () => {
    const step: typeof SOURCE_MACHINE.step = (state, event) => {
      const next = SOURCE_MACHINE.step(state, event);
      const commits = next.effects.some(({ type }) => type === 'send-commit');
      return commits ? { ...next, effects: [...next.effects, { type: 'release-guest' }] } : next;
    };
    await expect(many({ sourceMachine: { step, proof: allowed } })).rejects.toThrow(
      /the last copy is destroyed/,
    );
  });

  test('the destination runs the guest before its journal says so', async () => {
    const step: typeof DESTINATION_MACHINE.step = (state, event) => {
      const next = DESTINATION_MACHINE.step(state, event);
      if (state.name !== 'prepared' || next.state.name !== 'running') return next;
      const [journal, resume, ...rest] = next.effects;
      return { ...next, effects: [resume!, journal!, ...rest] };
    };
    const proof = { ...DESTINATION_MACHINE.proof, 'resume-guest': undefined };
    await expect(many({ destinationMachine: { step, proof } })).rejects.toThrow(/seed/);
  });

  test('the destination refuses and keeps its copy', async () => {
    const step: typeof DESTINATION_MACHINE.step = (state, event) => {
      const next = DESTINATION_MACHINE.step(state, event);
      const effects = next.effects.filter(
        ({ type }) => type !== 'discard-guest' || next.state.name !== 'refused',
      );
      return { ...next, effects };
    };
    const { proof } = DESTINATION_MACHINE;
    await expect(many({ destinationMachine: { step, proof } })).rejects.toThrow(/left over|open/);
  });
});
