import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { GodwitError } from '../../lib/errors.ts';
import {
  DESTINATION_MACHINE,
  DESTINATION_STATES,
  type DestinationEvent,
  type DestinationState,
  destinationStep,
  startDestination,
} from '../../lib/ownership/destination-machine.ts';
import type { Act, Machine, State, Step } from '../../lib/ownership/machine.ts';
import { DESTINATION_OBLIGATIONS, SOURCE_OBLIGATIONS } from '../../lib/ownership/obligations.ts';
import {
  SOURCE_MACHINE,
  SOURCE_STATES,
  type SourceEvent,
  type SourceState,
  sourceStep,
  startSource,
} from '../../lib/ownership/source-machine.ts';
import { randomOf } from '../random.ts';

const WIRE = new URL('../../proto/WIRE.md', import.meta.url);
const error = new GodwitError('cancelled', 'because');
/** The migration's; a person's decision takes the next. */
const epoch = 5;

const SOURCE_EVENTS: Record<string, SourceEvent> = {
  suspend: { type: 'suspend' },
  Prepared: { type: 'prepared', epoch },
  'Prepared of another epoch': { type: 'prepared', epoch: epoch - 1 },
  sealed: { type: 'sealed', late: undefined },
  'sealed, too late': { type: 'sealed', late: error },
  'not written': { type: 'unwritten', error },
  'Commit in doubt, or too late': { type: 'withdraw', error },
  Running: { type: 'running', epoch },
  Refused: { type: 'refused', epoch, error },
  Closed: { type: 'closed', epoch },
  abort: { type: 'abort', error },
  lost: { type: 'lost', error },
  "lost, by the peer's Abort": {
    type: 'lost',
    error: new GodwitError('cancelled', 'because', { fromPeer: true }),
  },
  restart: { type: 'restart', error },
  'Recovered: prepared': { type: 'recovered', epoch, state: 'prepared' },
  'Recovered: running, later epoch': { type: 'recovered', epoch: epoch + 1, state: 'running' },
  'Recovered: moved': { type: 'recovered', epoch, state: 'moved' },
  'Abort unknown-migration': { type: 'forgotten', proves: true },
  'the copy is gone': { type: 'gone' },
  '--keep-here': { type: 'keep-here', error },
  '--give-up': { type: 'give-up', error },
};
const DESTINATION_EVENTS: Record<string, DestinationEvent> = {
  'verified, loaded': { type: 'complete' },
  'not written': { type: 'unwritten', error },
  Commit: { type: 'commit', epoch },
  'Commit of another epoch': { type: 'commit', epoch: epoch - 1 },
  Withdraw: { type: 'withdraw', epoch },
  Released: { type: 'released', epoch },
  Aborted: { type: 'aborted', epoch, error },
  'Aborted of an earlier epoch': { type: 'aborted', epoch: epoch - 1, error },
  'does not start': { type: 'not-started', error },
  abort: { type: 'abort', error },
  lost: { type: 'lost', error },
  restart: { type: 'restart', error },
  Recover: { type: 'recover' },
  'the copy is gone': { type: 'gone' },
  '--keep-here': { type: 'keep-here', error },
  '--give-up': { type: 'give-up', error },
};

/** What a step does, in words: the new state, what changes in it, and the acts in their order. */
function wordsOf<Name extends string>(before: State<Name>, step: Step<Name>): string {
  const { state, acts, error } = step;
  const moves = state.name !== before.name;
  const words = [
    moves ? `**${state.name}**` : '',
    state.epoch > before.epoch ? `epoch + ${state.epoch - before.epoch}` : '',
    state.told && !before.told ? 'told' : '',
    state.asked && !before.asked ? 'asked' : '',
    state.withdrawn && !before.withdrawn ? 'withdrawn' : '',
    ...acts.map((act) => actWords(act)),
    error && !moves && state.epoch === before.epoch ? `error ${error.code}` : '',
  ];
  return words.filter((word) => word !== '').join(', ') || '–';
}

function actWords(act: Act): string {
  if (act.type === 'send-recovered') return `Recovered: ${act.state}`;
  return act.type === 'say' ? 'say' : act.type;
}

/** A row for each event, a column for each state; where it matters, what a side does that owns nothing. */
function table<Name extends string, Event>(
  states: readonly Name[],
  events: Record<string, Event>,
  { step }: Machine<Name, Event>,
): string {
  const cell = (name: Name, event: Event) => {
    const state = { name, epoch, told: false };
    const owner = wordsOf(state, step(state, event, true));
    const other = wordsOf(state, step(state, event, false));
    return owner === other ? owner : `${owner}; moved on: ${other}`;
  };
  const row = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [
    row(['event', ...states]),
    row(['---', ...states.map(() => '---')]),
    ...Object.entries(events).map(([name, event]) =>
      row([name, ...states.map((state) => cell(state, event))]),
    ),
  ].join('\n');
}

const TABLES = {
  source: table(SOURCE_STATES, SOURCE_EVENTS, SOURCE_MACHINE),
  destination: table(DESTINATION_STATES, DESTINATION_EVENTS, DESTINATION_MACHINE),
};

describe.each(Object.entries(TABLES))('every state and event of the %s', (side, made) => {
  test('stands in WIRE.md', () => {
    const part = new RegExp(`(<!-- ${side} table -->\n)[^]*?(\n<!-- end -->)`);
    const document = fs.readFileSync(WIRE, 'utf8');
    // UPDATE=1 writes the tables anew; the difference is then for a person to read.
    if (process.env.UPDATE) fs.writeFileSync(WIRE, document.replace(part, `$1${made}$2`));
    expect(fs.readFileSync(WIRE, 'utf8')).toContain(made);
  });
});

describe('whoever may run the guest', () => {
  const at = <Name extends string>(name: Name) => ({ name, epoch, told: false });

  test('the source runs nothing after commit by itself', () => {
    for (const [name, event] of Object.entries(SOURCE_EVENTS)) {
      const { state } = sourceStep(at('committed'), event, true);
      const byWord = ['Refused', '--keep-here'].includes(name);
      expect(state.name === 'aborted', name).toBe(byWord);
    }
  });

  test('the source destroys its copy for Running or a person, and for nothing else', () => {
    for (const before of SOURCE_STATES.filter((name) => name !== 'released'))
      for (const [name, event] of Object.entries(SOURCE_EVENTS)) {
        const { state } = sourceStep(at(before), event, true);
        const may = before === 'committed' ? ['Running', '--give-up'] : ['--give-up'];
        if (state.name === 'released') expect(may, before).toContain(name);
      }
  });

  test('a complete copy at the destination runs for Commit, Released, or a person, and for nothing else', () => {
    for (const [name, event] of Object.entries(DESTINATION_EVENTS)) {
      const { state } = destinationStep(at('prepared'), event, true);
      const byWord = ['Commit', 'Released', '--keep-here'].includes(name);
      expect(state.name === 'running', name).toBe(byWord);
    }
  });

  test('a withdrawn commit is asked for, never said again, and still ended only by the destination', () => {
    const { state } = sourceStep(at('committed'), { type: 'withdraw', error }, true);
    expect(state).toMatchObject({ name: 'committed', withdrawn: error });
    const again = sourceStep(state, { type: 'recovered', epoch, state: 'prepared' }, true);
    expect(again.state.withdrawn).toBe(error);
    const refused = sourceStep(again.state, SOURCE_EVENTS.Refused!, true);
    expect(refused).toMatchObject({ state: { name: 'aborted' }, error });
    expect(sourceStep(again.state, SOURCE_EVENTS.Running!, true).state.name).toBe('released');
  });

  test('of two decisions the later epoch stands, and at the same one the source keeps the guest', () => {
    const running: DestinationState = { ...at('running'), epoch: epoch + 1 };
    const aborted = (of: number) =>
      destinationStep(running, { type: 'aborted', epoch: of, error }, true).state;
    expect(aborted(epoch)).toEqual(running);
    expect(aborted(epoch + 1).name).toBe('superseded');
    expect(aborted(epoch + 2)).toMatchObject({ name: 'superseded', epoch: epoch + 2 });
    const runs = (of: number) =>
      sourceStep(at('aborted'), { type: 'recovered', epoch: of, state: 'running' }, true).state;
    expect(runs(epoch).name).toBe('aborted');
    expect(runs(epoch + 1)).toMatchObject({ name: 'superseded', epoch: epoch + 1 });
  });

  test('epochs never go back, and nothing leaves ended', () => {
    const machines = [
      [SOURCE_STATES, SOURCE_EVENTS, SOURCE_MACHINE],
      [DESTINATION_STATES, DESTINATION_EVENTS, DESTINATION_MACHINE],
    ] as const;
    for (const [states, events, { step }] of machines)
      for (const name of states)
        for (const event of Object.values(events))
          for (const owns of [true, false]) {
            const { state } = step(at(name) as never, event as never, owns);
            expect(state.epoch).toBeGreaterThanOrEqual(epoch);
            if (name === 'ended') expect(state.name).toBe('ended');
          }
  });

  test('every state that asks something of the copy is written before it is touched, or may be repeated', () => {
    expect(Object.keys(SOURCE_OBLIGATIONS)).toEqual(['aborted', 'released', 'superseded']);
    expect(Object.keys(DESTINATION_OBLIGATIONS).sort()).toEqual(
      ['discarded', 'refused', 'running', 'superseded'].sort(),
    );
    // Without a record these would rest on nothing: who comes after could not know of them.
    expect(SOURCE_MACHINE.writtenFirst).toEqual(['released', 'superseded']);
    expect(DESTINATION_MACHINE.writtenFirst).toEqual(['running', 'superseded']);
  });
});

/** Both machines over a way that loses what it likes; a guest runs where the states say so. */
describe('random walks of both machines', () => {
  type Said = 'Prepared' | 'Commit' | 'Withdraw' | 'Running' | 'Refused' | 'Aborted' | 'Released';
  const TO_SOURCE: Partial<Record<Said, (of: number) => SourceEvent>> = {
    Prepared: (of) => ({ type: 'prepared', epoch: of }),
    Running: (of) => ({ type: 'running', epoch: of }),
    Refused: (of) => ({ type: 'refused', epoch: of, error }),
  };
  const TO_DESTINATION: Partial<Record<Said, (of: number) => DestinationEvent>> = {
    Commit: (of) => ({ type: 'commit', epoch: of }),
    Withdraw: (of) => ({ type: 'withdraw', epoch: of }),
    Aborted: (of) => ({ type: 'aborted', epoch: of, error }),
    Released: (of) => ({ type: 'released', epoch: of }),
  };
  const SAYS: Partial<Record<string, Said>> = {
    ...{ prepared: 'Prepared', running: 'Running', refused: 'Refused' },
    ...{ committed: 'Commit', aborted: 'Aborted', released: 'Released' },
  };
  const SPONTANEOUS = ['abort', 'lost', 'restart', 'unwritten'] as const;

  function walk(seed: number): void {
    const random = randomOf(seed);
    let source: SourceState = startSource(epoch);
    let destination: DestinationState = startDestination(epoch);
    let [toSource, toDestination]: [Said[], Said[]] = [[], []];
    const take = (said: Said[]) => said.splice(Math.floor(random() * said.length), 1)[0]!;
    const stepSource = (event: SourceEvent) => {
      const { state, acts } = sourceStep(source, event, true);
      source = state;
      const says = state.withdrawn && state.name === 'committed' ? 'Withdraw' : SAYS[state.name];
      if (says && acts.some(({ type }) => type === 'say')) toDestination.push(says);
      if (acts.some(({ type }) => type === 'seal-guest'))
        stepSource({ type: 'sealed', late: random() < 0.2 ? error : undefined });
    };
    const stepDestination = (event: DestinationEvent) => {
      const { state, acts } = destinationStep(destination, event, true);
      destination = state;
      const says = SAYS[state.name];
      if (says && acts.some(({ type }) => type === 'say')) toSource.push(says);
    };
    for (let i = 0; i < 60; i++) {
      const which = random();
      if (which < 0.1) stepSource({ type: 'suspend' });
      else if (which < 0.2) stepDestination({ type: 'complete' });
      else if (which < 0.26)
        stepSource({ type: SPONTANEOUS[Math.floor(random() * 4)]!, error } as SourceEvent);
      else if (which < 0.32)
        stepDestination({
          type: SPONTANEOUS[Math.floor(random() * 4)]!,
          error,
        } as DestinationEvent);
      else if (which < 0.36) stepSource({ type: 'withdraw', error });
      else if (which < 0.44) [toSource, toDestination] = [toSource.slice(1), []];
      else if (which < 0.52) stepSource({ type: 'recovered', epoch, state: destination.name });
      else if (which < 0.76 && toSource.length > 0)
        stepSource(TO_SOURCE[take(toSource)]!(destination.epoch));
      else if (toDestination.length > 0)
        stepDestination(TO_DESTINATION[take(toDestination)]!(source.epoch));
      const runsHere = ['precopy', 'aborted'].includes(source.name);
      const runsThere = destination.name === 'running';
      if (runsHere && runsThere) throw new Error(`seed ${seed}: both may run it`);
      if (source.name === 'released' && !runsThere) throw new Error(`seed ${seed}: none has it`);
    }
  }

  test('never have two owners, nor destroy the last copy', () => {
    for (let seed = 0; seed < 5000; seed++) walk(seed);
  });
});
