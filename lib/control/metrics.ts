import type { Outcome } from '../report/records.ts';
import type { MigrationView } from './view.ts';

/** All of them are shown from the start: a counter that appears with its first event has no rate. */
const NONE_ENDED: Readonly<Record<Outcome, number>> = {
  completed: 0,
  aborted: 0,
  cancelled: 0,
  failed: 0,
  'needs-resolve': 0,
};

/** A gauge of each migration that has not ended: name, help, value (undefined: not known yet). */
const GAUGES: readonly [string, string, (view: MigrationView) => number | undefined][] = [
  ['wire_bytes', 'Bytes sent or received.', (v) => v.wireBytes],
  ['pages', 'Pages sent or received in all rounds.', (v) => v.pagesSent],
  ['total_pages', 'Pages of the guest.', (v) => v.totalPages],
  ['round', 'Pass over a dirty set that is running.', (v) => v.round],
  ['dirty_pages', 'Dirty pages at the last sync.', (v) => known(v.dirtyPages)],
  ['dirty_pages_per_second', 'Rate at which pages become dirty.', (v) => known(v.dirtyRate)],
  ['drain_bytes_per_second', 'Guest bytes acknowledged per second.', (v) => v.drainRate],
  [
    'estimated_suspension_seconds',
    'Forecast of the suspension, were it to begin now.',
    (v) => v.estimate && v.estimate.expected / 1000,
  ],
];

/** Prometheus text format 0.0.4. */
export function metricsText(
  views: readonly MigrationView[],
  totals: Readonly<Record<string, number>>,
): string {
  const open = views.filter((view) => view.phase !== 'ended');
  const lines = head('godwit_migrations_total', 'counter', 'Migrations ended, by outcome.');
  for (const [outcome, count] of Object.entries({ ...NONE_ENDED, ...totals }))
    lines.push(`godwit_migrations_total${labels({ outcome })} ${count}`);
  lines.push(
    ...head('godwit_migrations_running', 'gauge', 'Migrations that have not ended.'),
    `godwit_migrations_running ${open.length}`,
  );
  for (const [name, help, value] of GAUGES) {
    lines.push(...head(`godwit_migration_${name}`, 'gauge', help));
    for (const view of open) {
      const figure = value(view);
      const { id, guest } = view;
      if (figure !== undefined)
        lines.push(`godwit_migration_${name}${labels({ id, guest })} ${figure}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

function head(name: string, type: 'counter' | 'gauge', help: string): string[] {
  return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`];
}

function labels(values: Readonly<Record<string, string>>): string {
  const escaped = (text: string) =>
    text.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n');
  const pairs = Object.entries(values).map(([name, value]) => `${name}="${escaped(value)}"`);
  return `{${pairs.join(',')}}`;
}

function known(figure: number): number | undefined {
  return figure < 0 ? undefined : figure;
}
