import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Registry } from '../../lib/control/registry.ts';
import type { MigrationView } from '../../lib/control/view.ts';
import { aView, ended } from './fake-backend.ts';

class Session {
  readonly id: string;
  now: MigrationView;

  constructor(id: string) {
    this.id = id;
    this.now = aView({ id });
  }

  view(): MigrationView {
    return this.now;
  }
}

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

function registryOf(...ids: string[]) {
  const registry = new Registry<Session>();
  const sessions = ids.map((id) => new Session(id));
  for (const session of sessions) registry.add(session);
  return { registry, sessions };
}

test('a migration is found by its id and by a prefix that only it has', () => {
  const { registry, sessions } = registryOf('aa01', 'aa02', 'bb01');
  expect(registry.find('aa02')).toBe(sessions[1]);
  expect(registry.find('b')).toBe(sessions[2]);
  for (const id of ['', 'aa', 'cc', 'aa021'])
    expect(() => registry.find(id)).toThrow(expect.objectContaining({ code: 'unknown-migration' }));
});

test('a watcher hears at once, then ten times a second at most, and of the end without delay', () => {
  const { registry, sessions } = registryOf('aa01');
  const session = sessions[0]!;
  const heard: number[] = [];
  registry.watch('aa01', ({ round }) => heard.push(round));
  for (let round = 3; round < 50; round++) {
    session.now = aView({ round });
    registry.changed(session);
  }
  expect(heard).toEqual([2]);
  vi.advanceTimersByTime(100);
  expect(heard).toEqual([2, 49]);
  registry.changed(session);
  session.now = ended('completed', { round: 50 });
  registry.changed(session);
  expect(heard).toEqual([2, 49, 50]);
  vi.advanceTimersByTime(1000);
  expect(heard).toEqual([2, 49, 50]);
});

test('who stops watching hears nothing more', () => {
  const { registry, sessions } = registryOf('aa01');
  const heard = vi.fn();
  const stop = registry.watch('aa01', heard);
  stop();
  registry.changed(sessions[0]!);
  vi.advanceTimersByTime(1000);
  expect(heard).toHaveBeenCalledTimes(1);
});

test('each end is counted once; a connection that became no migration is not one', () => {
  const { registry, sessions } = registryOf('aa01', 'aa02');
  for (const session of sessions) {
    session.now = ended('aborted');
    registry.changed(session);
    registry.changed(session);
  }
  const stranger = new Session('');
  stranger.now = ended('failed');
  registry.changed(stranger);
  expect(registry.totals()).toEqual({ aborted: 2 });
});

test('the last hundred that have ended are kept, and all that run', () => {
  const { registry } = registryOf('run1');
  for (let n = 0; n < 150; n++) {
    const session = new Session(`end${n}`);
    session.now = ended('completed');
    registry.add(session);
  }
  const ids = registry.all().map(({ id }) => id);
  expect(ids).toHaveLength(101);
  expect(ids.slice(0, 2)).toEqual(['run1', 'end50']);
});
