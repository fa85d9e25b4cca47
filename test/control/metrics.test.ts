import { expect, test } from 'vitest';
import { metricsText } from '../../lib/control/metrics.ts';
import { aView, ended } from './fake-backend.ts';

/** Sample lines, by series. */
function samples(text: string): Record<string, string> {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return Object.fromEntries(lines.map((line) => line.split(/ (?=[^ ]+$)/)));
}

test('counters and the gauges of what runs', () => {
  const views = [aView(), ended('completed', { id: '4f2a000000000002' })];
  const found = samples(metricsText(views, { completed: 3, aborted: 1 }));
  const labels = '{id="4f2a000000000001",guest="vm1"}';
  expect(found).toEqual({
    'godwit_migrations_total{outcome="completed"}': '3',
    'godwit_migrations_total{outcome="aborted"}': '1',
    'godwit_migrations_total{outcome="cancelled"}': '0',
    'godwit_migrations_total{outcome="failed"}': '0',
    'godwit_migrations_total{outcome="needs-resolve"}': '0',
    godwit_migrations_running: '1',
    [`godwit_migration_wire_bytes${labels}`]: '536870912',
    [`godwit_migration_pages${labels}`]: '264644',
    [`godwit_migration_total_pages${labels}`]: '262144',
    [`godwit_migration_round${labels}`]: '2',
    [`godwit_migration_dirty_pages${labels}`]: '5120',
    [`godwit_migration_dirty_pages_per_second${labels}`]: '4800',
    [`godwit_migration_drain_bytes_per_second${labels}`]: '209715200',
    [`godwit_migration_estimated_suspension_seconds${labels}`]: '0.042',
  });
});

test('what is not known yet has no sample', () => {
  const view = aView({ dirtyRate: -1, dirtyPages: -1, estimate: undefined });
  const text = metricsText([view], {});
  for (const name of ['dirty_pages', 'dirty_pages_per_second', 'estimated_suspension_seconds'])
    expect(text).not.toContain(`godwit_migration_${name}{`);
});

test('every series has one HELP and one TYPE before it, and the text ends with a line feed', () => {
  const lines = metricsText([aView(), aView({ id: '4f2a000000000002' })], {}).split('\n');
  expect(lines.at(-1)).toBe('');
  const types = lines.filter((line) => line.startsWith('# TYPE')).map((line) => line.split(' ')[2]);
  expect(new Set(types).size).toBe(types.length);
  for (const [index, line] of lines.entries()) {
    const name = /^godwit\w+/.exec(line)?.[0];
    if (name === undefined) continue;
    const type = lines.findIndex((other) => other.startsWith(`# TYPE ${name} `));
    expect(type).toBeGreaterThan(0);
    expect(type).toBeLessThan(index);
    expect(lines[type - 1]).toMatch(new RegExp(`^# HELP ${name} `));
  }
});

test('labels are escaped', () => {
  const text = metricsText([aView({ guest: 'a"b\\c\nd' })], {});
  expect(text).toContain('godwit_migration_round{id="4f2a000000000001",guest="a\\"b\\\\c\\nd"} 2');
});
