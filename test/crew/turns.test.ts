import { expect, test } from 'vitest';
import { Turns } from '../../lib/crew/turns.ts';

/** Who gets its turn, in order, when all of them wait at once. */
async function order(waiting: readonly [migration: string, urgent: boolean][]): Promise<string[]> {
  const turns = new Turns();
  const given: string[] = [];
  await Promise.all(
    waiting.map(async ([migration, urgent]) => {
      await turns.next(migration, urgent);
      given.push(migration);
    }),
  );
  return given;
}

test('migrations take turns, however many lanes each of them has', async () => {
  const many = Array.from({ length: 4 }, () => ['a', false] as [string, boolean]);
  expect(await order([...many, ['b', false], ['b', false], ['c', false]])).toEqual([
    ...['a', 'b', 'c', 'a', 'b', 'a', 'a'],
  ]);
});

test('those whose guest is suspended come first', async () => {
  const all: [string, boolean][] = [
    ['a', false],
    ['b', false],
    ['c', true],
    ['d', true],
  ];
  expect(await order(all)).toEqual(['c', 'd', 'a', 'b']);
});

test('between two turns the event loop serves what has happened', async () => {
  const turns = new Turns();
  const seen: string[] = [];
  await Promise.all(
    [1, 2, 3].map(async (n) => {
      await turns.next('a', false);
      seen.push(`turn ${n}`);
      setImmediate(() => seen.push(`event ${n}`));
    }),
  );
  await new Promise(setImmediate);
  expect(seen.indexOf('event 1')).toBeLessThan(seen.indexOf('turn 3'));
});
