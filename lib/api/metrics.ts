import type { MigrationView } from '../migration/view.ts';
import type { Expiry } from '../wire/certificates.ts';
import { Exposition } from './exposition.ts';
import { needsResolve } from './health.ts';
import { addProcess } from './process-metrics.ts';
import type { Tally } from './tally.ts';

/** What an agent counts. */
export interface Figures {
  readonly role: MigrationView['role'];
  readonly version: string;
  /** Of migrations that have ended. */
  readonly tally: Tally;
  /** States that its handovers can be in. */
  readonly states: readonly string[];
  /** Connections turned away since the daemon started, by reason; undefined where none are taken. */
  readonly refused: ReadonlyMap<string, number> | undefined;
  readonly expiries: readonly Expiry[];
}

/** Of each migration that has not ended: type, name, help, value (undefined: not known yet). */
const OF_EACH: readonly [
  'counter' | 'gauge',
  string,
  string,
  (view: MigrationView) => number | undefined,
][] = [
  ['counter', 'wire_bytes_total', 'Bytes sent or received.', (v) => v.wireBytes],
  ['counter', 'pages_total', 'Pages sent or received in all rounds.', (v) => v.pagesSent],
  ['gauge', 'guest_pages', 'Pages of the guest.', (v) => v.totalPages],
  ['gauge', 'round', 'Pass over a dirty set that is running.', (v) => v.round],
  ['gauge', 'dirty_pages', 'Dirty pages at the last sync.', (v) => known(v.dirtyPages)],
  [
    'gauge',
    'dirty_pages_per_second',
    'Rate at which pages become dirty.',
    (v) => known(v.dirtyRate),
  ],
  ['gauge', 'drain_bytes_per_second', 'Guest bytes acknowledged per second.', (v) => v.drainRate],
  [
    'gauge',
    'forecast_suspension_seconds',
    'Forecast of the suspension, were it to begin now.',
    (v) => v.estimate && v.estimate.expected / 1000,
  ],
  [
    'gauge',
    'suspension_limit_seconds',
    'Longest suspension that is allowed.',
    (v) => v.limits?.maxSuspendMs && v.limits.maxSuspendMs / 1000,
  ],
];

/**
 * Prometheus text format 0.0.4. Counters are those of the daemon's life; what runs is in them, so that
 * they grow while it does.
 */
export function metricsText(views: readonly MigrationView[], figures: Figures): string {
  const to = new Exposition();
  add(to, views, figures);
  return addProcess(to).toString();
}

/**
 * The same for node_exporter, which puts the files of both agents and its own figures into one
 * answer, and gives none where two are alike: each sample says whose it is, and what every process
 * has is left to the collectors that it has for that.
 */
export function textfileMetrics(views: readonly MigrationView[], figures: Figures): string {
  const to = new Exposition({ agent: figures.role === 'send' ? 'agent-send' : 'agent-recv' });
  add(to, views, figures);
  return to.toString();
}

function add(to: Exposition, views: readonly MigrationView[], figures: Figures): void {
  const { role, version, tally, refused, expiries } = figures;
  const open = views.filter((view) => view.phase !== 'ended');
  const all = (ended: number, of: (view: MigrationView) => number) =>
    open.reduce((sum, view) => sum + of(view), ended);
  const by = (label: string, counts: Readonly<Record<string, number>>) =>
    Object.entries(counts).map(([name, count]) => [{ [label]: name }, count] as const);
  const { node } = process.versions;
  to.series('gauge', 'godwit_build_info', 'What runs.', [[{ version, node, role }, 1]])
    .series('counter', 'godwit_migrations_total', 'Migrations ended.', by('outcome', tally.ended))
    .gauge('godwit_migrations_running', 'Migrations that have not ended.', open.length)
    .gauge(
      'godwit_needs_resolve',
      'Migrations that wait for a person to decide.',
      open.filter(needsResolve).length,
    )
    .series('gauge', 'godwit_open_handovers', 'Handovers that are not over.', opened(open, figures))
    .series('gauge', 'godwit_waiting', 'Handovers that wait for something.', waiting(open))
    .counter(
      'godwit_wire_bytes_total',
      'Bytes of migrations on the wire.',
      all(tally.wireBytes, (view) => view.wireBytes),
    )
    .counter(
      'godwit_pages_total',
      'Guest pages sent or received.',
      all(tally.pages, (view) => view.pagesSent),
    )
    .counter(
      'godwit_reconnects_total',
      'Lost connections of migrations that came back.',
      all(tally.reconnects, (view) => view.reconnects),
    );
  if (role === 'send') addPromises(to, tally);
  if (refused !== undefined)
    to.series(
      'counter',
      'godwit_connections_refused_total',
      'Connections turned away.',
      by('reason', Object.fromEntries(refused)),
    );
  to.series(
    'gauge',
    'godwit_certificate_expiry_timestamp_seconds',
    'When a certificate ends, since 1970.',
    expiries.map(({ option, notAfter }) => [{ option: option.slice(2) }, notAfter / 1000]),
  );
  for (const [type, name, help, value] of OF_EACH) {
    const samples = open.flatMap((view) => {
      const figure = value(view);
      return figure === undefined ? [] : [[{ id: view.id, guest: view.guest }, figure] as const];
    });
    to.series(type, `godwit_migration_${name}`, help, samples);
  }
}

/** Of guests that this host has sent: what was promised about their suspension, and what came of it. */
function addPromises(to: Exposition, { promises, ...tally }: Tally): void {
  to.series(
    'counter',
    'godwit_promises_total',
    'Suspensions with a limit, by whether they kept it.',
    [
      [{ result: 'kept' }, promises.kept],
      [{ result: 'missed' }, promises.missed],
    ],
  )
    .histogram('godwit_suspension_seconds', 'How long guests were suspended.', tally.suspension)
    .histogram(
      'godwit_suspension_limit_ratio',
      'Suspensions as shares of their limit.',
      tally.ratio,
    )
    .histogram(
      'godwit_forecast_error_ratio',
      'By what share of the suspension its forecast was off.',
      tally.forecastError,
    );
}

/** By state of the handover; all states are shown from the start. */
function opened(open: readonly MigrationView[], { states }: Figures) {
  const counts = new Map(states.map((state) => [state, 0]));
  for (const { ownership = 'none' } of open)
    counts.set(ownership, (counts.get(ownership) ?? 0) + 1);
  return [...counts].map(([state, count]) => [{ state }, count] as const);
}

/** By the state of the handover: what is waited for there is in the words of `list`. */
function waiting(open: readonly MigrationView[]) {
  const waits = open.filter(({ waitsFor }) => waitsFor !== undefined);
  const by = Object.groupBy(waits, ({ ownership, phase }) => ownership ?? phase);
  return Object.entries(by).map(([state, views]) => [{ state }, views!.length] as const);
}

function known(figure: number): number | undefined {
  return figure < 0 ? undefined : figure;
}
