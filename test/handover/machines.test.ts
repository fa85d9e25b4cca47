import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { GodwitError } from '../../lib/errors.ts';
import {
  DESTINATION_STATES,
  type DestinationEvent,
  destinationStep,
} from '../../lib/handover/destination-machine.ts';
import { HandoverDriver, type JournalEffect } from '../../lib/handover/driver.ts';
import { SOURCE_STATES, type SourceEvent, sourceStep } from '../../lib/handover/source-machine.ts';

const WIRE = new URL('../../proto/WIRE.md', import.meta.url);
const error = new GodwitError('cancelled', 'because');
const epoch = 1;

const SOURCE_EVENTS: Record<string, SourceEvent> = {
  suspend: { type: 'suspend' },
  Prepared: { type: 'prepared', epoch },
  sealed: { type: 'sealed', epoch, late: undefined },
  'sealed, too late': { type: 'sealed', epoch, late: error },
  'too late for Commit': { type: 'withdraw', error },
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
  'Recovered: running, later epoch': { type: 'recovered', epoch: 2, state: 'running' },
  'Abort unknown-migration': { type: 'forgotten' },
  '--keep-here': { type: 'keep-here', error },
  '--give-up': { type: 'give-up', error },
};
const DESTINATION_EVENTS: Record<string, DestinationEvent> = {
  'verified, loaded': { type: 'complete' },
  Commit: { type: 'commit', epoch },
  'Commit of another epoch': { type: 'commit', epoch: 2 },
  Released: { type: 'released', epoch },
  Aborted: { type: 'aborted', epoch, error },
  'does not start': { type: 'resume-failed', error },
  abort: { type: 'abort', error },
  lost: { type: 'lost', error },
  restart: { type: 'restart', error },
  Recover: { type: 'recover' },
  '--keep-here': { type: 'keep-here', error },
  '--give-up': { type: 'give-up', error },
};

type Step = {
  readonly state: { readonly name: string; readonly epoch: number };
  readonly effects: readonly { readonly type: string; readonly state?: string }[];
};

/** A row for each event, a column for each state: where it leads, and the effects in their order. */
function table<Name extends string, Event>(
  states: readonly Name[],
  events: Record<string, Event>,
  step: (state: { name: Name; epoch: number }, event: Event) => Step,
): string {
  const cell = (name: Name, event: Event) => {
    const { state, effects } = step({ name, epoch }, event);
    const list = effects.map((e) => (e.type === 'journal' ? `journal ${e.state}` : e.type));
    const where = state.name === name ? '' : `**${state.name}** `;
    const later = state.epoch > epoch ? `(epoch ${state.epoch}) ` : '';
    return `${where}${later}${list.join(', ')}`.trim() || '–';
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
  source: table(SOURCE_STATES, SOURCE_EVENTS, sourceStep),
  destination: table(DESTINATION_STATES, DESTINATION_EVENTS, destinationStep),
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
  const effectsOf = ({ effects }: Step) => effects.map(({ type }) => type);

  test('the source resumes nothing after commit by itself', () => {
    for (const [name, event] of Object.entries(SOURCE_EVENTS)) {
      const effects = effectsOf(sourceStep({ name: 'committed', epoch }, event));
      const byWord = ['Refused', 'too late for Commit', '--keep-here'].includes(name);
      expect(effects.includes('resume-guest'), name).toBe(byWord);
    }
  });

  test('a complete copy at the destination runs for Commit, Released, or a person, and for nothing else', () => {
    for (const [name, event] of Object.entries(DESTINATION_EVENTS)) {
      const effects = effectsOf(destinationStep({ name: 'prepared', epoch }, event));
      const byWord = ['Commit', 'Released', '--keep-here'].includes(name);
      expect(effects.includes('resume-guest'), name).toBe(byWord);
    }
  });

  test('of two decisions the later epoch stands, and at the same one the source keeps the guest', () => {
    const running = { name: 'running', epoch: 2 } as const;
    const aborted = (of: number) => destinationStep(running, { type: 'aborted', epoch: of, error });
    expect(aborted(1).state).toEqual(running);
    expect(aborted(2).state.name).toBe('superseded');
    expect(aborted(3).state).toEqual({ name: 'superseded', epoch: 3 });
  });
});

describe('the driver', () => {
  type Effect = { type: 'run' } | { type: 'note' } | JournalEffect<'a' | 'b'>;
  const journal: Effect = { type: 'journal', state: 'b', epoch, error: undefined };
  const driver = (effects: Effect[], writes: () => Promise<void>, done: string[]) =>
    new HandoverDriver<'a' | 'b', string, Effect>(
      { step: () => ({ state: { name: 'b', epoch }, effects }), proof: { run: ['b'] } },
      { name: 'a', epoch },
      { journal: writes, perform: ({ type }) => void done.push(type) },
    );

  test('performs nothing that the journal does not allow', async () => {
    const done: string[] = [];
    const early = driver([{ type: 'note' }, { type: 'run' }, journal], async () => {}, done);
    await expect(early.dispatch('x')).rejects.toThrow(/run while the journal says a/);
    expect(done).toEqual(['note']);
  });

  test('goes back when the journal cannot be written, and does what needs no record', async () => {
    const done: string[] = [];
    const full = async () => {
      throw new GodwitError('journal-failed', 'disk full');
    };
    const failing = driver([journal, { type: 'note' }, { type: 'run' }], full, done);
    await expect(failing.dispatch('x')).rejects.toMatchObject({ code: 'journal-failed' });
    expect(failing.state.name).toBe('a');
    expect(done).toEqual(['note']);
  });
});
