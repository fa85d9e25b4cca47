import { GodwitError } from '../errors.ts';
import { formatDuration } from '../units.ts';
import { HOLD_RULE, isHold } from './hold.ts';
import type { PolicyLimits } from './stats.ts';

/** Which policy decides. */
export type PolicyName = 'contract' | 'xen' | 'custom';

/** A change in flight: null takes a limit away, a field left out stays. */
export type LimitsChange = {
  readonly [K in keyof PolicyLimits]?: PolicyLimits[K] | null;
};

type DurationField = 'maxSuspendMs' | 'timeoutMs' | 'pauseBelowMs' | 'abortAboveMs';

const SECOND = 1000;
const HOUR = 3600 * SECOND;

/** Option names and ranges, both ends included. */
export const LIMIT_DURATIONS: Record<DurationField, { option: string; min: number; max: number }> =
  {
    // Below 10 ms the handover alone takes longer; above an hour it is no live migration.
    maxSuspendMs: { option: '--max-suspend-time', min: 10, max: HOUR },
    timeoutMs: { option: '--timeout', min: SECOND, max: 7 * 24 * HOUR },
    pauseBelowMs: { option: '--pause-below', min: 1, max: HOUR },
    abortAboveMs: { option: '--abort-above', min: 10, max: HOUR },
  };
export const LIMIT_COUNTS = {
  maxIters: { option: '--max-iters', min: 1, max: 10_000 },
  minRemaining: { option: '--min-remaining', min: 0, max: 2 ** 32 },
} as const;

const DEFAULTS: PolicyLimits = {
  maxSuspendMs: 300,
  timeoutMs: undefined,
  prefer: 'workload',
  pauseBelowMs: undefined,
  abortAboveMs: undefined,
  maxIters: 5,
  minRemaining: 50,
  hold: undefined,
};

/** Options that a policy would silently ignore are refused instead. The custom policy sees all. */
const NOT_FOR: Record<PolicyName, readonly (keyof PolicyLimits)[]> = {
  contract: ['maxIters', 'minRemaining'],
  xen: ['prefer', 'pauseBelowMs', 'abortAboveMs'],
  custom: [],
};

/** Whether a policy heeds a limit at all. */
export function heeds(policy: PolicyName, field: keyof PolicyLimits): boolean {
  return !NOT_FOR[policy].includes(field);
}

/**
 * The limits of a new migration: what the operator gave, defaults for the rest. Xen's policy knows
 * no suspension limit, so it gets none unless asked for.
 *
 * @throws GodwitError bad-option, naming the option and what is allowed
 */
export function policyLimits(policy: PolicyName, given: LimitsChange): PolicyLimits {
  return changeLimits(policy, defaultsOf(policy), given);
}

/**
 * Limits that were made for one policy, as another one takes them: what it knows of them, and its
 * own defaults for the rest.
 */
export function limitsFor(policy: PolicyName, limits: PolicyLimits): PolicyLimits {
  const known = Object.entries(limits).filter(
    ([field, value]) => value !== undefined && heeds(policy, field as keyof PolicyLimits),
  );
  return Object.freeze({ ...defaultsOf(policy), ...Object.fromEntries(known) });
}

/** The limits after a change in flight. @throws GodwitError bad-option; nothing changes then */
export function changeLimits(
  policy: PolicyName,
  current: PolicyLimits,
  change: LimitsChange,
): PolicyLimits {
  const fields = Object.keys(DEFAULTS) as (keyof PolicyLimits)[];
  const given = fields.filter((field) => change[field] !== undefined);
  for (const field of given) checkField(policy, field, change[field]);
  const changes = given.map((field) => [field, change[field] ?? undefined]);
  const limits: PolicyLimits = Object.freeze({ ...current, ...Object.fromEntries(changes) });
  checkTogether(policy, limits);
  return limits;
}

function defaultsOf(policy: PolicyName): PolicyLimits {
  return policy === 'xen' ? { ...DEFAULTS, maxSuspendMs: undefined } : DEFAULTS;
}

function checkField(policy: PolicyName, field: keyof PolicyLimits, value: unknown): void {
  const option = optionOf(field);
  if (!heeds(policy, field)) {
    throw refused(`${option} has no meaning for the ${policy} policy; leave it out`);
  }
  if (field === 'prefer') {
    if (value === 'workload' || value === 'completion') return;
    throw refused(`${option} must be workload or completion, not ${JSON.stringify(value)}`);
  }
  if (field === 'maxIters' || field === 'minRemaining') {
    const { min, max } = LIMIT_COUNTS[field];
    if (Number.isInteger(value) && Number(value) >= min && Number(value) <= max) return;
    throw refused(`${option} must be a whole number from ${min} to ${max}, not ${value}`);
  }
  if (value === null) return;
  if (field === 'hold') {
    if (isHold(value)) return;
    throw refused(`${option} is ${HOLD_RULE}, not ${JSON.stringify(value).slice(0, 80)}`);
  }
  const { min, max } = LIMIT_DURATIONS[field];
  if (typeof value === 'number' && value >= min && value <= max) return;
  const range = `${formatDuration(min)} to ${formatDuration(max)}`;
  const got = Number.isFinite(value) ? formatDuration(Number(value)) : JSON.stringify(value);
  throw refused(`${option} must be ${range}, not ${got}`);
}

function checkTogether(policy: PolicyName, limits: PolicyLimits): void {
  const { maxSuspendMs, pauseBelowMs, abortAboveMs, prefer } = limits;
  if (maxSuspendMs === undefined && policy !== 'xen') {
    throw refused('--max-suspend-time cannot be taken away; only the xen policy does without it');
  }
  if (pauseBelowMs === undefined) return;
  const atMost = (option: string, ms: number | undefined) => {
    if (ms === undefined || pauseBelowMs <= ms) return;
    const allowed = `${formatDuration(LIMIT_DURATIONS.pauseBelowMs.min)} to ${formatDuration(ms)}`;
    throw refused(
      `--pause-below is ${formatDuration(pauseBelowMs)}, but ${option} allows only ${allowed}`,
    );
  };
  atMost('--abort-above', abortAboveMs);
  if (prefer === 'workload') atMost('--max-suspend-time', maxSuspendMs);
}

function optionOf(field: keyof PolicyLimits): string {
  if (field === 'prefer') return '--prefer';
  if (field === 'hold') return 'a hold';
  if (field === 'maxIters' || field === 'minRemaining') return LIMIT_COUNTS[field].option;
  return LIMIT_DURATIONS[field].option;
}

function refused(message: string): GodwitError {
  return new GodwitError('bad-option', message);
}
