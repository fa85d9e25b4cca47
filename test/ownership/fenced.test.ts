import { describe, expect, test } from 'vitest';
import { destinationDilemma, sourceDilemma } from '../../lib/ownership/decision.ts';
import { DESTINATION_STATES } from '../../lib/ownership/destination-machine.ts';
import { answerToStart, type Exposed, fenceInWords, proves } from '../../lib/ownership/fenced.ts';
import { SOURCE_STATES } from '../../lib/ownership/source-machine.ts';

const ALL: readonly Exposed[] = [
  ...SOURCE_STATES.map((state) => ({ role: 'send' as const, state })),
  ...DESTINATION_STATES.map((state) => ({ role: 'receive' as const, state })),
].map((one) => ({ ...one, sinceMs: 10_000, recordedMs: 70_000 }));

function dilemmaOf({ role, state }: Exposed) {
  return role === 'send' ? sourceDilemma(state as never) : destinationDilemma(state as never);
}

test('only a copy that stands is to be answered', () => {
  const answered = ALL.map((one) => [
    one.state,
    answerToStart(one, true),
    answerToStart(one, false),
  ]);
  expect(answered.filter(([, answer]) => answer !== undefined)).toEqual([
    ['committed', 'keep-here', 'give-up'],
    ['prepared', 'keep-here', 'give-up'],
  ]);
});

test('whatever is answered is open in that state', () => {
  for (const one of ALL)
    for (const answer of [answerToStart(one, true), answerToStart(one, false)])
      if (answer !== undefined) expect(Object.keys(dilemmaOf(one).choices)).toContain(answer);
});

describe('a fence proves something', () => {
  const fence = (atMs: number) => ({ node: 'n2', atMs, by: 'n1' });
  const exposed = (state: Exposed['state'], role: Exposed['role']) =>
    ALL.find((one) => one.state === state && one.role === role)!;

  test.each(['committed', 'prepared'] as const)('%s: newer than what the host said', (state) => {
    const one = exposed(state, state === 'committed' ? 'send' : 'receive');
    expect(proves(fence(71_000), one)).toBe(true);
    expect(proves(fence(70_000), one)).toBe(false); // in the same second: before or after?
    expect(proves(fence(20_000), one)).toBe(false); // another boot of it
  });

  test.each([
    ['aborted', 'send'],
    ['running', 'receive'],
  ] as const)('%s: newer than the migration', (state, role) => {
    expect(proves(fence(20_000), exposed(state, role))).toBe(true);
    expect(proves(fence(10_000), exposed(state, role))).toBe(false);
  });
});

test('it is told with who has confirmed it', () => {
  const atMs = Date.parse('2026-11-30T02:00:05Z');
  const told = 'n2 was fenced at 2026-11-30 02:00:05Z (by a human)';
  expect(fenceInWords({ node: 'n2', atMs, by: 'a human' })).toBe(told);
});
