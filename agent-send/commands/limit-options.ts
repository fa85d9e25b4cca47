import type { Input, Option } from '../../lib/control/cli.ts';
import { BANDWIDTH_RANGE } from '../../lib/control/request.ts';
import type { LimitsPatch } from '../../lib/control/view.ts';
import { GodwitError } from '../../lib/errors.ts';
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
  bandwidth: {
    value: 'RATE',
    help: 'cap on the stream: 1gbit, 50MiB/s, …',
    range: `${formatRate(BANDWIDTH_RANGE.min)} to ${formatRate(BANDWIDTH_RANGE.max)}`,
    otherwise: 'none',
  },
};

/** The limits that were given; "none" is null. @throws GodwitError bad-option */
export function patchOf({ option }: Input): LimitsPatch {
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
  const bandwidth = option('bandwidth');
  if (bandwidth !== undefined)
    patch.bandwidth =
      bandwidth === 'none' ? null : parseBandwidth(bandwidth, '--bandwidth', BANDWIDTH_RANGE);
  return patch;
}

/** The same for `set`, which without a limit has nothing to do. @throws GodwitError bad-option */
export function changeOf(input: Input): LimitsPatch {
  const patch = patchOf(input);
  if (Object.keys(patch).length > 0) return patch;
  const names = Object.keys(limitOptions).map((name) => `--${name}`);
  throw new GodwitError('bad-option', `nothing to change: give one of ${names.join(', ')}`);
}

function duration(field: keyof typeof LIMIT_DURATIONS) {
  const { min, max } = LIMIT_DURATIONS[field];
  return { value: 'DURATION', range: `${formatDuration(min)} to ${formatDuration(max)}` };
}

function count(field: keyof typeof LIMIT_COUNTS, value: string) {
  const { min, max } = LIMIT_COUNTS[field];
  return { value, range: `${min} to ${max}` };
}
