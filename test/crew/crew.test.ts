import fs from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Crew, type Task } from '../../lib/crew/crew.ts';
import type { OddRequests } from './odd-task.ts';

const MODULE = new URL('./odd-task.ts', import.meta.url);
let crew: Crew;
let closed: Int32Array<SharedArrayBuffer>;
const failures: string[] = [];
beforeEach(() => {
  crew = new Crew(2, [MODULE]);
  closed = new Int32Array(new SharedArrayBuffer(4));
  failures.length = 0;
});
afterEach(() => crew.stop());

function begin(name: string, data = {}): Task<OddRequests> {
  return crew.begin<OddRequests>(MODULE, { closed: closed.buffer, ...data }, ({ message }) =>
    failures.push(`${name}: ${message}`),
  );
}

const threads = () => fs.readdirSync('/proc/self/task').length;

describe('a crew', () => {
  test('carries more tasks than it has threads, and outlives them', async () => {
    await crew.started();
    const before = threads();
    const tasks = Array.from({ length: 40 }, (_, i) => begin(`${i}`));
    expect(await Promise.all(tasks.map((task, i) => task.request('echo', `${i}`)))).toEqual(
      tasks.map((_, i) => `${i}`),
    );
    expect(threads()).toBe(before);
    await Promise.all(tasks.map((task) => task.stop()));
    expect(closed[0]).toBe(40);
    expect(await begin('another').request('echo', 'still')).toBe('still');
    expect(threads()).toBe(before);
    expect(failures).toEqual([]);
  });

  test('answers for each task alone: what one throws or fails with is nothing to others', async () => {
    const [bad, good] = [begin('bad'), begin('good')];
    await expect(bad.request('refuse', undefined)).rejects.toThrow('no');
    expect(await bad.request('echo', 'lives')).toBe('lives');
    await bad.request('fail', 'broken').catch(() => {});
    await expect(bad.request('echo', 'again')).rejects.toThrow('broken');
    expect(await good.request('echo', 'well')).toBe('well');
    const none = begin('none', { refuses: true });
    await expect(none.request('echo', 'x')).rejects.toThrow('does not want to');
    expect(failures).toEqual([expect.stringContaining('bad: '), expect.stringContaining('none: ')]);
    await Promise.all([bad.stop(), none.stop(), good.stop()]);
    expect(closed[0]).toBe(2);
  });

  test('begins a task beside another: in its worker, and lost with it', async () => {
    const [anchor, elsewhere] = [begin('anchor'), begin('elsewhere')];
    const data = { closed: closed.buffer };
    const beside = ['a', 'b'].map((name) =>
      crew.begin<OddRequests>(MODULE, data, () => failures.push(name), anchor),
    );
    expect(await beside[1]!.request('echo', 'here')).toBe('here');
    await anchor.request('exit', undefined).catch(() => {});
    await expect(beside[0]!.request('echo', 'x')).rejects.toMatchObject({ code: 'internal' });
    expect(failures).toEqual([expect.stringContaining('anchor: '), 'a', 'b']);
    expect(await elsewhere.request('echo', 'well')).toBe('well');
    const late = crew.begin<OddRequests>(MODULE, data, () => {}, anchor);
    expect(await late.request('echo', 'anywhere')).toBe('anywhere');
  });

  test('rejects what is not answered when a task is stopped, and says nothing of it later', async () => {
    const task = begin('task');
    const waiting = task.request('wait', undefined);
    const [first, second] = [task.stop(), task.stop()];
    await expect(waiting).rejects.toMatchObject({ code: 'cancelled' });
    await Promise.all([first, second]);
    await expect(task.request('echo', 'x')).rejects.toMatchObject({ code: 'cancelled' });
    expect([closed[0], failures]).toEqual([1, []]);
  });

  test.each(['throwLater', 'exit', 'hoard'] as const)(
    'whose worker dies (%s) fails the tasks in it with a sentence, keeps the others, and has another',
    async (way) => {
      const tasks = ['a', 'b', 'c', 'd'].map((name) => begin(name));
      await Promise.all(tasks.map((task) => task.request('echo', 'up')));
      const [a, b, c, d] = tasks as [Task<OddRequests>, ...Task<OddRequests>[]];
      const waiting = c!.request('wait', undefined);
      waiting.catch(() => {});
      const sentence = /a worker thread of the agent is gone, and with it the migrations/;
      await expect(a.request(way, undefined)).rejects.toThrow(sentence);
      await expect(waiting).rejects.toThrow(sentence);
      await expect(a.request('echo', 'x')).rejects.toThrow(sentence);
      expect(failures).toEqual([
        expect.stringMatching(/^a: a worker thread/),
        expect.stringMatching(/^c: a worker thread/),
      ]);
      expect(await b!.request('echo', 'b')).toBe('b');
      expect(await d!.request('echo', 'd')).toBe('d');
      const next = ['e', 'f', 'g'].map((name) => begin(name));
      for (const task of next) expect(await task.request('echo', 'new')).toBe('new');
      await Promise.all([...tasks, ...next].map((task) => task.stop()));
    },
  );

  test('that is stopped rejects everything and begins nothing', async () => {
    const task = begin('task');
    const waiting = task.request('wait', undefined);
    waiting.catch(() => {});
    await crew.stop();
    await expect(waiting).rejects.toMatchObject({ code: 'cancelled' });
    expect(() => begin('late')).toThrow('shutting down');
    await task.stop();
    expect(failures).toEqual([]);
  });
});

test('a crew whose workers cannot start says so, and fails what is begun in it', async () => {
  const lame = new Crew(1, [new URL('./no-such-task.ts', import.meta.url)]);
  await expect(lame.started()).rejects.toThrow(
    /a worker thread of the agent is gone.*no-such-task/,
  );
  const failed = Promise.withResolvers<Error>();
  const task = lame.begin<OddRequests>(MODULE, {}, failed.resolve);
  await expect(task.request('echo', 'x')).rejects.toThrow('no-such-task');
  expect((await failed.promise).message).toContain('no-such-task');
  await task.stop();
  await lame.stop();
});
