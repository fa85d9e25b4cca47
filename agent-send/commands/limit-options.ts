import { BANDWIDTH_RANGE } from '../../lib/api/request.ts';
import type { Input, Option } from '../../lib/cli/cli.ts';
import { GodwitError } from '../../lib/errors.ts';
import type { LimitsPatch } from '../../lib/migration/view.ts';
import { isHold, localTime, nextTimeOfDay, UNTIL_CUTOVER } from '../../lib/precopy/hold.ts';
import { LIMIT_COUNTS, LIMIT_DURATIONS } from '../../lib/precopy/limits.ts';
import {
  formatDuration,
  formatRate,
  parseBandwidth,
  parseCount,
  parseDuration,
} from '../../lib/units.ts';

/** Options that `migrate` and `set` share. */
export const limitOptions: Readonly<Record<string, Option>> = {
  'max-suspend-time': {
    ...duration('maxSuspendMs'),
    help: 'longest suspension of the guest; enforced',
    otherwise: '300ms; policy xen: none',
  },
  timeout: {
    ...duration('timeoutMs'),
    help: 'longest move; then it is given up, or with --prefer\ncompletion finished',
    otherwise: 'none',
  },
  prefer: {
    value: 'workload|completion',
    help: 'what matters more when both cannot be had: leave the\nworkload alone, or finish',
    otherwise: 'workload',
  },
  'pause-below': {
    ...duration('pauseBelowMs'),
    help: 'at or below this forecast the guest may be suspended',
    otherwise: '--max-suspend-time',
  },
  'abort-above': {
    ...duration('abortAboveMs'),
    help: 'above this forecast the guest is never suspended',
    otherwise: 'none',
  },
  'max-iters': {
    ...count('maxIters', 'N'),
    help: 'policy xen: rounds before it stops anyway',
    otherwise: '5',
  },
  'min-remaining': {
    ...count('minRemaining', 'PAGES'),
    help: 'policy xen: stop below this many dirty pages',
    otherwise: '50',
  },
  hold: {
    help: 'keep the guest running and ready until "cutover"; an\nagent-send that is restarted meanwhile ends the move',
  },
  at: {
    value: 'TIME',
    help: 'hold until then, and cut over: 02:00 (the next one by\nthe clock of this host) or a date and time, 2026-11-30T02:00',
  },
  window: {
    value: 'FROM-TO',
    help: 'hold, and cut over at a good moment between these times\nof any day, 02:00-04:00 by the clock of this host',
  },
  bandwidth: {
    value: 'RATE',
    help: 'cap on the stream while the guest runs: 1gbit, 50MiB/s, …',
    range: `${formatRate(BANDWIDTH_RANGE.min)} to ${formatRate(BANDWIDTH_RANGE.max)}`,
    otherwise: 'none',
  },
  'suspend-bandwidth': {
    value: 'RATE',
    help: 'the same while the guest is suspended',
    range: `${formatRate(BANDWIDTH_RANGE.min)} to ${formatRate(BANDWIDTH_RANGE.max)}`,
    otherwise: 'none',
  },
};

const CAPS = { bandwidth: '--bandwidth', suspendBandwidth: '--suspend-bandwidth' } as const;

/**
 * The limits that were given; "none" is null.
 * @param now when they are to hold, ms since 1970: a time of day is the next one
 * @throws GodwitError bad-option
 */
export function patchOf(input: Input, now = Date.now()): LimitsPatch {
  const { option } = input;
  const patch: { -readonly [K in keyof LimitsPatch]: LimitsPatch[K] } = {};
  for (const field of ['maxSuspendMs', 'timeoutMs', 'pauseBelowMs', 'abortAboveMs'] as const) {
    const range = LIMIT_DURATIONS[field];
    const text = option(range.option.slice(2));
    if (text !== undefined)
      patch[field] = text === 'none' ? null : parseDuration(text, range.option, range);
  }
  for (const field of ['maxIters', 'minRemaining'] as const) {
    const range = LIMIT_COUNTS[field];
    const text = option(range.option.slice(2));
    if (text !== undefined) patch[field] = parseCount(text, range.option, range);
  }
  const prefer = option('prefer');
  if (prefer !== undefined) {
    if (prefer !== 'workload' && prefer !== 'completion')
      throw new GodwitError('bad-option', `--prefer is workload or completion, not "${prefer}"`);
    patch.prefer = prefer;
  }
  const hold = holdOf(input, now);
  if (hold !== undefined) patch.hold = hold;
  for (const field of ['bandwidth', 'suspendBandwidth'] as const) {
    const name = CAPS[field];
    const text = option(name.slice(2));
    if (text !== undefined)
      patch[field] = text === 'none' ? null : parseBandwidth(text, name, BANDWIDTH_RANGE);
  }
  return patch;
}

/** What `set` can change. */
export const setOptions: Readonly<Record<string, Option>> = {
  ...limitOptions,
  'no-hold': { help: 'cut over as soon as the policy sees fit' },
};

/** The same for `set`, which without a limit has nothing to do. @throws GodwitError bad-option */
export function changeOf(input: Input): LimitsPatch {
  const patch = patchOf(input);
  if (Object.keys(patch).length > 0) return patch;
  const names = Object.keys(setOptions).map((name) => `--${name}`);
  throw new GodwitError('bad-option', `nothing to change: give one of ${names.join(', ')}`);
}

/** Undefined when nothing was said about it. @throws GodwitError bad-option */
function holdOf({ option, flag }: Input, now: number): string | null | undefined {
  const at = option('at');
  const window = option('window');
  const given = [
    flag('hold') && UNTIL_CUTOVER,
    at !== undefined && instantOf(at, now),
    window !== undefined && windowOf(window),
    flag('no-hold') && null,
  ].filter((hold) => hold !== false);
  if (given.length > 1)
    throw new GodwitError('bad-option', 'choose one of --hold, --at, --window and --no-hold');
  return given[0];
}

/** A time of day is the next one; a date and time without a zone is of this host's. */
function instantOf(text: string, now: number): string {
  const shaped = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d/.test(text);
  const at = nextTimeOfDay(text, now) ?? (shaped ? Date.parse(text) : Number.NaN);
  const refuse = (why: string) => new GodwitError('bad-option', `--at cannot be "${text}": ${why}`);
  if (Number.isNaN(at))
    throw refuse('it takes a time (02:00) or a date and time (2026-11-30T02:00)');
  if (at <= now) throw refuse(`that is past, it is ${localTime(now)}`);
  return new Date(at).toISOString();
}

function windowOf(text: string): string {
  if (/^\d\d:\d\d-/.test(text) && isHold(text)) return text;
  throw new GodwitError(
    'bad-option',
    `--window cannot be "${text}": it takes two different times of day (02:00-04:00)`,
  );
}

function duration(field: keyof typeof LIMIT_DURATIONS) {
  const { min, max } = LIMIT_DURATIONS[field];
  return { value: 'DURATION', range: `${formatDuration(min)} to ${formatDuration(max)}` };
}

function count(field: keyof typeof LIMIT_COUNTS, value: string) {
  const { min, max } = LIMIT_COUNTS[field];
  return { value, range: `${min} to ${max}` };
}
