import type { Input, Option } from '../../lib/control/cli.ts';
import { BANDWIDTH_RANGE } from '../../lib/control/request.ts';
import type { LimitsPatch } from '../../lib/control/view.ts';
import { GodwitError } from '../../lib/errors.ts';
import { parseBandwidth, parseCount, parseDuration } from '../../lib/units.ts';

/** Options that `migrate` and `set` share. Ranges are checked where the limits are kept. */
export const limitOptions: Readonly<Record<string, Option>> = {
  'max-suspend-time': {
    value: 'DURATION',
    help: 'longest suspension of the guest, 10ms to 1h; enforced (default 300ms; xen: none)',
  },
  timeout: {
    value: 'DURATION',
    help: 'longest move, 1s to 7d; then it is given up, or with\n--prefer completion finished (default: none)',
  },
  prefer: {
    value: 'workload|completion',
    help: 'what matters more when both cannot be had: leave the\nworkload alone, or finish (default workload)',
  },
  'pause-below': {
    value: 'DURATION',
    help: 'at or below this forecast the guest may be suspended\n(default: --max-suspend-time)',
  },
  'abort-above': {
    value: 'DURATION',
    help: 'above this forecast the guest is never suspended (default: none)',
  },
  'max-iters': { value: 'N', help: 'policy xen: rounds before it stops anyway (default 5)' },
  'min-remaining': {
    value: 'PAGES',
    help: 'policy xen: stop below this many dirty pages (default 50)',
  },
  bandwidth: { value: 'RATE', help: 'cap on the stream: 1gbit, 50MiB/s, … (default: none)' },
};

const DURATIONS = [
  ['max-suspend-time', 'maxSuspendMs'],
  ['timeout', 'timeoutMs'],
  ['pause-below', 'pauseBelowMs'],
  ['abort-above', 'abortAboveMs'],
] as const;

/** The limits that were given; "none" is null. @throws GodwitError bad-option */
export function patchOf({ option }: Input): LimitsPatch {
  const patch: { -readonly [K in keyof LimitsPatch]: LimitsPatch[K] } = {};
  for (const [name, field] of DURATIONS) {
    const text = option(name);
    if (text !== undefined)
      patch[field] = text === 'none' ? null : parseDuration(text, `--${name}`);
  }
  const prefer = option('prefer');
  if (prefer !== undefined) {
    if (prefer !== 'workload' && prefer !== 'completion')
      throw new GodwitError('bad-option', `--prefer is workload or completion, not "${prefer}"`);
    patch.prefer = prefer;
  }
  const maxIters = option('max-iters');
  if (maxIters !== undefined) patch.maxIters = parseCount(maxIters, '--max-iters', { min: 1 });
  const minRemaining = option('min-remaining');
  if (minRemaining !== undefined) patch.minRemaining = parseCount(minRemaining, '--min-remaining');
  const bandwidth = option('bandwidth');
  if (bandwidth !== undefined)
    patch.bandwidth =
      bandwidth === 'none' ? null : parseBandwidth(bandwidth, '--bandwidth', BANDWIDTH_RANGE);
  return patch;
}
