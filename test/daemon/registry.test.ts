import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { Registry } from '../../lib/daemon/registry.ts';
import type { MigrationView } from '../../lib/migration/view.ts';
import { aView, ended } from '../api/fake-backend.ts';

class Migration {
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
  const registry = new Registry<Migration>();
  const migrations = ids.map((id) => new Migration(id));
  for (const migration of migrations) registry.add(migration);
  return { registry, migrations };
}

test('a migration is found by its id and by a prefix that only it has', () => {
  const { registry, migrations } = registryOf('aa01', 'aa02', 'bb01');
  expect(registry.find('aa02')).toBe(migrations[1]);
  expect(registry.find('b')).toBe(migrations[2]);
  expect(() => registry.find('aa')).toThrow(
    expect.objectContaining({
      code: 'ambiguous-id',
      message: '"aa" begins the ids of 2 migrations: aa02 (vm1), aa01 (vm1)',
    }),
  );
  for (const id of ['', 'cc', 'aa021'])
    expect(() => registry.find(id)).toThrow(expect.objectContaining({ code: 'unknown-migration' }));
});

test('a watcher hears at once, then ten times a second at most, and of the end without delay', () => {
  const { registry, migrations } = registryOf('aa01');
  const migration = migrations[0]!;
  const heard: number[] = [];
  registry.watch('aa01', ({ round }) => heard.push(round));
  for (let round = 3; round < 50; round++) {
    migration.now = aView({ round });
    registry.changed(migration);
  }
  expect(heard).toEqual([2]);
  vi.advanceTimersByTime(100);
  expect(heard).toEqual([2, 49]);
  registry.changed(migration);
  migration.now = ended('completed', { round: 50 });
  registry.changed(migration);
  expect(heard).toEqual([2, 49, 50]);
  vi.advanceTimersByTime(1000);
  expect(heard).toEqual([2, 49, 50]);
});

test('who stops watching hears nothing more', () => {
  const { registry, migrations } = registryOf('aa01');
  const heard = vi.fn();
  const stop = registry.watch('aa01', heard);
  stop();
  registry.changed(migrations[0]!);
  vi.advanceTimersByTime(1000);
  expect(heard).toHaveBeenCalledTimes(1);
});

test('each end is counted once; a connection that became no migration is not one', () => {
  const { registry, migrations } = registryOf('aa01', 'aa02');
  for (const migration of migrations) {
    migration.now = ended('aborted');
    registry.changed(migration);
    registry.changed(migration);
  }
  const stranger = new Migration('');
  stranger.now = ended('failed');
  registry.changed(stranger);
  expect(registry.tally.ended).toMatchObject({ aborted: 2, failed: 0 });
});

test('the last hundred that have ended are kept, and all that run', () => {
  const { registry } = registryOf('run1');
  for (let n = 0; n < 150; n++) {
    const migration = new Migration(`end${n}`);
    migration.now = ended('completed');
    registry.add(migration);
  }
  const ids = registry.all().map(({ id }) => id);
  expect(ids).toHaveLength(101);
  expect(ids.slice(0, 2)).toEqual(['run1', 'end50']);
});

test('a migration that waits for a person is an error in the log, once each time', () => {
  const lines: string[] = [];
  vi.spyOn(process.stderr, 'write').mockImplementation((line) => lines.push(String(line)) > 0);
  onTestFinished(() => void vi.restoreAllMocks());
  const { registry, migrations } = registryOf('aa01');
  const migration = migrations[0]!;
  const turns = (outcome: MigrationView['outcome']) => {
    migration.now = aView({ id: 'aa01', phase: 'handover', outcome, waitsFor: 'hostb' });
    registry.changed(migration);
  };
  turns(undefined);
  expect(lines).toEqual([]);
  turns('needs-resolve');
  turns('needs-resolve');
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatch(
    / error \[aa01 vm1\] needs resolve: waits for hostb; see agent-send resolve aa01\n$/,
  );
  turns(undefined);
  turns('needs-resolve');
  expect(lines).toHaveLength(2);
});
