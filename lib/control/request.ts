import path from 'node:path';
import { GodwitError } from '../errors.ts';
import { GUEST_NAME_RULE, isGuestName } from '../guest/guest.ts';
import type { Choice } from '../handover/resolve.ts';
import { type PolicyName, policyLimits } from '../precopy/limits.ts';
import type { PolicyLimits } from '../precopy/stats.ts';
import { MAX_CHANNELS } from '../wire/handshake.ts';
import type { LimitsPatch, MigrationRequest } from './view.ts';

/** Of the cap on the stream, bytes per second: below it a page batch takes too long to be steered. */
export const BANDWIDTH_RANGE = { min: 1e6, max: 1e12 };

const LIMIT_FIELDS = [
  'maxSuspendMs',
  'timeoutMs',
  'prefer',
  'pauseBelowMs',
  'abortAboveMs',
  'maxIters',
  'minRemaining',
] as const;

/**
 * Checks the body of `POST /migrations`, which may come from any program.
 * @throws GodwitError bad-option, naming the field and what is allowed
 */
export function parseMigrationRequest(body: unknown): MigrationRequest {
  const fields = record(body, 'the request');
  onlyFields(fields, [
    ...['guest', 'host', 'port', 'policy', 'policyModule', 'limits', 'bandwidth', 'channels'],
    ...['compression', 'verify'],
  ]);
  const guest = text(fields, 'guest');
  if (!isGuestName(guest))
    throw refuse('guest', `cannot be ${JSON.stringify(guest.slice(0, 80))}: ${GUEST_NAME_RULE}`);
  const host = text(fields, 'host');
  if (!/^[\w.:%-]{1,255}$/.test(host)) throw refuse('host', 'is a host name or an address');
  const policy = oneOf(fields, 'policy', ['contract', 'xen', 'custom'] as const, 'contract');
  const limits = limitsOf(fields.limits ?? {});
  checkLimits(policy, limits);
  const request: MigrationRequest = {
    guest,
    host,
    port: wholeNumber(fields, 'port', 1, 65535) ?? missing('port'),
    policy,
    limits,
    compression: oneOf(fields, 'compression', ['auto', 'off'] as const, 'auto'),
    verify: flag(fields, 'verify'),
  };
  const policyModule = fields.policyModule === undefined ? undefined : text(fields, 'policyModule');
  if (policyModule !== undefined && !path.isAbsolute(policyModule))
    throw refuse('policyModule', 'is an absolute path');
  if ((policyModule !== undefined) !== (policy === 'custom'))
    throw refuse('policyModule', 'goes with the policy custom, and the other way round');
  const bandwidth = number(fields, 'bandwidth', BANDWIDTH_RANGE);
  const channels = wholeNumber(fields, 'channels', 1, MAX_CHANNELS);
  return {
    ...request,
    ...(policyModule === undefined ? {} : { policyModule }),
    ...(bandwidth === undefined ? {} : { bandwidth }),
    ...(channels === undefined ? {} : { channels }),
  };
}

/**
 * Checks the body of `PATCH /migrations/ID`; whether the values fit the running migration is
 * checked there.
 * @throws GodwitError bad-option
 */
export function parseLimitsPatch(body: unknown): LimitsPatch {
  const fields = record(body, 'the request');
  onlyFields(fields, [...LIMIT_FIELDS, 'bandwidth']);
  if (Object.keys(fields).length === 0)
    throw new GodwitError('bad-option', 'nothing to change: give at least one limit');
  const { bandwidth, ...limits } = fields;
  const patch = limitsOf(limits) as LimitsPatch;
  if (bandwidth === undefined) return patch;
  if (bandwidth === null) return { ...patch, bandwidth };
  return { ...patch, bandwidth: number(fields, 'bandwidth', BANDWIDTH_RANGE)! };
}

/** Checks the body of `POST /migrations/ID/resolve`. @throws GodwitError bad-option */
export function parseChoice(body: unknown): Choice {
  const fields = record(body, 'the request');
  onlyFields(fields, ['choice']);
  const choice = text(fields, 'choice');
  if (choice !== 'keep-here' && choice !== 'give-up')
    throw refuse('choice', 'is keep-here or give-up');
  return choice;
}

/** Ranges, and what the policy allows. @throws GodwitError bad-option */
function checkLimits(policy: PolicyName, limits: Partial<PolicyLimits>): void {
  try {
    policyLimits(policy, limits);
  } catch (error) {
    if (!(error instanceof GodwitError)) throw error;
    throw new GodwitError(error.code, `limits: ${error.message}`);
  }
}

/** Shapes only; ranges are the policy's business. */
function limitsOf(value: unknown): Partial<PolicyLimits> {
  const fields = record(value, 'limits');
  onlyFields(fields, LIMIT_FIELDS);
  for (const [name, limit] of Object.entries(fields)) {
    if (name === 'prefer' ? typeof limit === 'string' : limit === null || Number.isFinite(limit))
      continue;
    throw refuse(name, name === 'prefer' ? 'is workload or completion' : 'is a number');
  }
  return fields as Partial<PolicyLimits>;
}

type Fields = Readonly<Record<string, unknown>>;

function record(value: unknown, what: string): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw new GodwitError('bad-option', `${what} must be a JSON object`);
}

function onlyFields(fields: Fields, allowed: readonly string[]): void {
  const unknown = Object.keys(fields).find((name) => !allowed.includes(name));
  if (unknown === undefined) return;
  throw new GodwitError(
    'bad-option',
    `unknown field ${JSON.stringify(unknown.slice(0, 40))}; allowed are ${allowed.join(', ')}`,
  );
}

function text(fields: Fields, name: string): string {
  const value = fields[name];
  if (typeof value === 'string' && value !== '' && value.length <= 4096) return value;
  throw refuse(name, 'is a text that is not empty');
}

function number(
  fields: Fields,
  name: string,
  { min, max }: { min: number; max: number },
): number | undefined {
  const value = fields[name];
  if (value === undefined) return undefined;
  if (typeof value === 'number' && value >= min && value <= max) return value;
  throw refuse(name, `is a number from ${min} to ${max}`);
}

function wholeNumber(fields: Fields, name: string, min: number, max: number): number | undefined {
  const value = number(fields, name, { min, max });
  if (value === undefined || Number.isInteger(value)) return value;
  throw refuse(name, `is a whole number from ${min} to ${max}`);
}

function flag(fields: Fields, name: string): boolean {
  const value = fields[name] ?? false;
  if (typeof value === 'boolean') return value;
  throw refuse(name, 'is true or false');
}

function oneOf<T extends string>(
  fields: Fields,
  name: string,
  allowed: readonly T[],
  otherwise: T,
): T {
  const value = fields[name] ?? otherwise;
  if (allowed.includes(value as T)) return value as T;
  throw refuse(name, `is one of ${allowed.join(', ')}`);
}

function missing(name: string): never {
  throw refuse(name, 'is missing');
}

function refuse(name: string, rule: string): GodwitError {
  return new GodwitError('bad-option', `${name} ${rule}`);
}
