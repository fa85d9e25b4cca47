import type { LedgerRecord } from './records.ts';

type Shape = Readonly<Record<string, 'number' | 'string' | 'boolean' | 'object'>>;

/**
 * Fields that every reader relies on, by path. Optional ones are left out: JSON drops `undefined`,
 * and a figure that is missing is a gap in the report, not a reason to refuse it.
 */
const SHAPES: Readonly<Record<LedgerRecord['type'], Shape>> = {
  start: {
    at: 'number',
    time: 'string',
    id: 'string',
    guest: 'string',
    destination: 'string',
    hypervisor: 'string',
    policy: 'string',
    limits: 'object',
    'limits.prefer': 'string',
    totalPages: 'number',
    lanes: 'number',
  },
  forecast: { at: 'number', by: 'string', verdict: 'string', reason: 'string', basis: 'string' },
  disks: { at: 'number', ms: 'number', bytes: 'number', names: 'object' },
  consultation: {
    at: 'number',
    stats: 'object',
    'stats.when': 'string',
    'stats.iteration': 'number',
    'stats.totalPages': 'number',
    'stats.totalWritten': 'number',
    'stats.dirtyCount': 'number',
    'stats.elapsedMs': 'number',
    'stats.wireBytes': 'number',
    'stats.drainRate': 'number',
    'stats.dirtyRate': 'number',
    'stats.cutoverRequested': 'boolean',
    verdict: 'object',
    'verdict.action': 'string',
    'verdict.reason': 'string',
  },
  round: {
    at: 'number',
    round: 'number',
    dirtyPages: 'number',
    sentPages: 'number',
    ms: 'number',
    wireBytes: 'number',
    encodings: 'object',
    levels: 'object',
  },
  limits: { at: 'number', limits: 'object', 'limits.prefer': 'string' },
  note: { at: 'number', text: 'string' },
  outage: { at: 'number', ms: 'number', reason: 'string' },
  host: {
    at: 'number',
    side: 'string',
    name: 'string',
    cpus: 'number',
    system: 'string',
    agent: 'string',
  },
  link: { at: 'number', lanes: 'number', tls: 'boolean', compression: 'string' },
  earlier: { at: 'number', suspensions: 'object' },
  suspension: { at: 'number', side: 'string', parts: 'object', agentMs: 'number' },
  end: {
    at: 'number',
    outcome: 'string',
    message: 'string',
    rounds: 'number',
    pages: 'number',
    wireBytes: 'number',
    encodings: 'object',
  },
};

/** What is wrong with a parsed line as a ledger record; undefined when nothing is. */
export function checkRecord(value: unknown): string | 'unknown-type' | undefined {
  const type = at(value, 'type');
  if (typeof type !== 'string') return 'the line is not a record';
  if (!Object.hasOwn(SHAPES, type)) return 'unknown-type';
  const shape = SHAPES[type as LedgerRecord['type']];
  const bad = Object.keys(shape).find((path) => kind(at(value, path)) !== shape[path]);
  return bad === undefined ? undefined : `the ${type} record has no valid "${bad}"`;
}

function at(value: unknown, path: string): unknown {
  let found = value;
  for (const key of path.split('.')) {
    if (kind(found) !== 'object') return undefined;
    found = (found as Record<string, unknown>)[key];
  }
  return found;
}

function kind(value: unknown): string {
  return value === null ? 'null' : typeof value;
}
