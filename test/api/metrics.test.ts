import { expect, test } from 'vitest';
import { type Figures, metricsText } from '../../lib/api/metrics.ts';
import { Tally } from '../../lib/api/tally.ts';
import type { MigrationView } from '../../lib/migration/view.ts';
import { aView, ended, FIGURES } from './fake-backend.ts';
import { promtool, titled } from './promtool.ts';

const EXPIRY = Date.parse('2027-01-01T00:00:00Z');

function figures(over: Partial<Figures> = {}): Figures {
  return { ...FIGURES, tally: new Tally(), ...over };
}

/** Sample lines, by series; those of the process are left out. */
function samples(text: string): Record<string, string> {
  const lines = text.split('\n').filter((line) => /^godwit/.test(line));
  return Object.fromEntries(lines.map((line) => line.split(/ (?=[^ ]+$)/)));
}

const suspended = (guestMs: number, limitMs?: number, forecastMs = 100) =>
  ({ agentMs: guestMs + 1, guestMs, clock: 'monotonic', limitMs, forecastMs }) as const;

function tallied(...views: MigrationView[]): Tally {
  const tally = new Tally();
  for (const view of views) tally.add(view);
  return tally;
}

test('what runs, each of it with its own figures', () => {
  const views = [aView({ reconnects: 2 }), ended('completed', { id: '4f2a000000000002' })];
  const found = samples(metricsText(views, figures()));
  const labels = '{id="4f2a000000000001",guest="vm1"}';
  expect(found).toMatchObject({
    godwit_migrations_running: '1',
    godwit_needs_resolve: '0',
    godwit_reconnects_total: '2',
    'godwit_migrations_total{outcome="completed"}': '0',
    [`godwit_migration_wire_bytes_total${labels}`]: '536870912',
    [`godwit_migration_pages_total${labels}`]: '264644',
    [`godwit_migration_guest_pages${labels}`]: '262144',
    [`godwit_migration_round${labels}`]: '2',
    [`godwit_migration_dirty_pages${labels}`]: '5120',
    [`godwit_migration_dirty_pages_per_second${labels}`]: '4800',
    [`godwit_migration_drain_bytes_per_second${labels}`]: '209715200',
    [`godwit_migration_forecast_suspension_seconds${labels}`]: '0.042',
    [`godwit_migration_suspension_limit_seconds${labels}`]: '0.3',
  });
  expect(Object.keys(found).filter((name) => name.includes('000002'))).toEqual([]);
});

test('a counter does not fall when a migration ends', () => {
  const running = aView({ reconnects: 2 });
  const over = ended('completed', { reconnects: 2 });
  for (const name of ['godwit_wire_bytes_total', 'godwit_pages_total', 'godwit_reconnects_total']) {
    const [before, after] = [
      samples(metricsText([running], figures()))[name],
      samples(metricsText([over], figures({ tally: tallied(over) })))[name],
    ];
    expect([name, Number(after)]).toEqual([name, Number(before)]);
    expect(Number(before)).toBeGreaterThan(0);
  }
});

test('promises kept and missed, and how good forecasts were', () => {
  const tally = tallied(
    ended('completed', { suspension: suspended(40, 300) }),
    ended('aborted', { suspension: suspended(120, 100) }), // rolled back, and late
    ended('completed', { suspension: suspended(100) }), // without a limit
    ended('completed', { role: 'receive', suspension: suspended(7) }), // counted where it left
    ended('failed'),
  );
  expect(samples(metricsText([], figures({ tally })))).toMatchObject({
    'godwit_migrations_total{outcome="completed"}': '3',
    'godwit_migrations_total{outcome="aborted"}': '1',
    'godwit_migrations_total{outcome="failed"}': '1',
    'godwit_promises_total{result="kept"}': '1',
    'godwit_promises_total{result="missed"}': '1',
    godwit_suspension_seconds_count: '3',
    godwit_suspension_seconds_sum: '0.26',
    'godwit_suspension_seconds_bucket{le="0.025"}': '0',
    'godwit_suspension_seconds_bucket{le="0.05"}': '1',
    'godwit_suspension_seconds_bucket{le="0.1"}': '2',
    'godwit_suspension_seconds_bucket{le="+Inf"}': '3',
    'godwit_suspension_limit_ratio_bucket{le="1"}': '1',
    'godwit_suspension_limit_ratio_bucket{le="1.5"}': '2',
    'godwit_forecast_error_ratio_bucket{le="0.05"}': '1', // 100 of 100
    'godwit_forecast_error_ratio_bucket{le="0.2"}': '2', // 100 of 120
    godwit_forecast_error_ratio_count: '3',
  });
});

test('what is not known yet has no sample', () => {
  const view = aView({ dirtyRate: -1, dirtyPages: -1, estimate: undefined, limits: undefined });
  const text = metricsText([view], figures());
  for (const name of ['dirty_pages', 'dirty_pages_per_second', 'forecast_suspension_seconds'])
    expect(text).not.toContain(`godwit_migration_${name}{`);
});

test('refused connections by reason, and when certificates end', () => {
  const refused = new Map([
    ['peer-not-allowed', 3],
    ['tls-failed', 0],
  ]);
  const expiries = [{ option: '--tls-cert', notAfter: EXPIRY }] as const;
  const found = samples(metricsText([], figures({ role: 'receive', refused, expiries })));
  expect(found).toMatchObject({
    'godwit_connections_refused_total{reason="peer-not-allowed"}': '3',
    'godwit_connections_refused_total{reason="tls-failed"}': '0',
    'godwit_certificate_expiry_timestamp_seconds{option="tls-cert"}': String(EXPIRY / 1000),
  });
  expect(Object.keys(found).some((name) => name.startsWith('godwit_promises'))).toBe(false);
});

test('every series has one HELP and one TYPE before it, and the text ends with a line feed', () => {
  const lines = metricsText([aView(), aView({ id: '4f2a000000000002' })], figures()).split('\n');
  expect(lines.at(-1)).toBe('');
  const types = lines
    .filter((line) => line.startsWith('# TYPE'))
    .map((line) => line.split(' ')[2]!);
  expect(new Set(types).size).toBe(types.length);
  for (const [index, line] of lines.entries()) {
    const sample = /^[a-z]\w+/.exec(line)?.[0];
    if (sample === undefined) continue;
    const name =
      types.find((type) => sample.replace(/_(bucket|sum|count)$/, '') === type) ?? sample;
    const type = lines.findIndex((other) => other.startsWith(`# TYPE ${name} `));
    expect(type, line).toBeGreaterThan(0);
    expect(type).toBeLessThan(index);
    expect(lines[type - 1]).toMatch(new RegExp(`^# HELP ${name} `));
  }
});

test('labels are escaped', () => {
  const text = metricsText([aView({ guest: 'a"b\\c\nd' })], figures());
  expect(text).toContain('godwit_migration_round{id="4f2a000000000001",guest="a\\"b\\\\c\\nd"} 2');
});

test('open handovers by state, what waits, and what waits for a person', () => {
  const stuck = { outcome: 'needs-resolve', ownership: 'committed', waitsFor: 'a word' } as const;
  const views = [
    aView({ ...stuck, phase: 'handover' }),
    aView({ ...stuck, phase: 'ended' }),
    aView({ phase: 'recovery', ownership: 'released', waitsFor: 'hostb' }),
    aView({ phase: 'recovery', ownership: 'released', waitsFor: 'hostc' }),
    aView({ waitsFor: 'a connection, lost 3 s ago' }),
  ];
  expect(samples(metricsText(views, figures()))).toMatchObject({
    godwit_needs_resolve: '1',
    'godwit_open_handovers{state="precopy"}': '0',
    'godwit_open_handovers{state="committed"}': '1',
    'godwit_open_handovers{state="released"}': '2',
    'godwit_waiting{state="committed"}': '1',
    'godwit_waiting{state="released"}': '2',
    'godwit_waiting{state="precopy"}': '1',
  });
});

test.skipIf(promtool === undefined)(titled('finds nothing wrong with any of it'), () => {
  const refused = new Map([['peer-not-allowed', 1]]);
  const expiries = [{ option: '--tls-ca', notAfter: EXPIRY }] as const;
  const text = metricsText([aView()], figures({ refused, expiries }));
  expect(promtool!(['check', 'metrics'], text)).toEqual({ status: 0, said: '' });
  const wrong = text.replaceAll('godwit_reconnects_total', 'godwit_reconnects');
  expect(promtool!(['check', 'metrics'], wrong).said).toContain('godwit_reconnects');
});
