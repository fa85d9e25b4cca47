import path from 'node:path';
import { GodwitError } from '../errors.ts';
import { type EvacuationRequest, type MoveTerms, ORDERS } from '../evacuation/view.ts';
import type { Rehearsal } from '../guest/profile.ts';
import { GUEST_NAME_RULE, isGuestName } from '../guest-name.ts';
import type { LimitsPatch, MigrationRequest } from '../migration/view.ts';
import type { Choice } from '../ownership/decision.ts';
import { HOLD_RULE, isHold } from '../precopy/hold.ts';
import { LIMIT_DURATIONS, type PolicyName, policyLimits } from '../precopy/limits.ts';
import type { PolicyLimits } from '../precopy/stats.ts';
import { HISTORY_OUTCOMES, type HistoryFilter } from '../report/history.ts';
import { parseAddress } from '../wire/address.ts';
import { MAX_LANES } from '../wire/handshake.ts';

/** Of the cap on the stream, bytes per second: below it a page batch takes too long to be steered. */
export const BANDWIDTH_RANGE = { min: 1e6, max: 1e12 };

/** Of a profile, ms: QEMU before 8.2 measures whole seconds, and ten minutes say nothing about a move. */
export const PROFILE_RANGE = { min: 1000, max: 600_000 };

/** Characters of the name of whoever decides. */
export const MAX_BY = 64;
/** Neither control characters nor what turns the reading direction: the name goes into logs. */
const PRINTABLE = /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]+$/u;

const LIMIT_FIELDS = [
  'maxSuspendMs',
  'timeoutMs',
  'prefer',
  'pauseBelowMs',
  'abortAboveMs',
  'maxIters',
  'minRemaining',
  'hold',
] as const;

/** Limits that no policy sees. */
const CAPS = ['bandwidth', 'suspendBandwidth'] as const;

/**
 * Checks the body of `POST /migrations`, which may come from any program.
 * @throws GodwitError bad-option, naming the field and what is allowed
 */
export function parseMigrationRequest(body: unknown): MigrationRequest {
  const fields = record(body, 'the request');
  onlyFields(fields, ['guest', 'host', 'port', ...TERMS, 'bandwidth', 'by', 'destXml', 'destName']);
  const guest = guestIn(text(fields, 'guest'), 'guest');
  const host = hostIn(text(fields, 'host'), 'host');
  const port = wholeNumber(fields, 'port', 1, 65535) ?? missing('port');
  const bandwidth = number(fields, 'bandwidth', BANDWIDTH_RANGE);
  const by = fields.by === undefined ? undefined : nameOf(fields);
  return {
    guest,
    host,
    port,
    ...termsOf(fields),
    ...(bandwidth === undefined ? {} : { bandwidth }),
    ...(by === undefined ? {} : { by }),
    ...domainOf(fields),
  };
}

/** Characters of XML that a domain has: a request has room for it (`lib/api/http.ts`). */
export const MAX_XML = 48 << 10;

/** What only one domain can be given. */
function domainOf(fields: Fields): Pick<MigrationRequest, 'destXml' | 'destName'> {
  const { destXml, destName } = fields;
  if (destXml !== undefined && !(typeof destXml === 'string' && destXml.length <= MAX_XML))
    throw refuse('destXml', `is XML of at most ${MAX_XML} characters`);
  return {
    ...(destXml === undefined ? {} : { destXml }),
    ...(destName === undefined ? {} : { destName: guestIn(text(fields, 'destName'), 'destName') }),
  };
}

/** Of all that is moved at once: a destination takes 64 at the most usefully, and so many lines can be looked at. */
export const PARALLEL_RANGE = { min: 1, max: 64 };

/** Checks the body of `POST /evacuation`. @throws GodwitError bad-option */
export function parseEvacuationRequest(body: unknown): EvacuationRequest {
  const fields = record(body, 'the request');
  onlyFields(fields, [
    ...['destinations', 'guests', 'parallel', 'bandwidth', 'order', 'retryUpToMs', 'move', 'by'],
  ]);
  const destinations = texts(fields, 'destinations') ?? missing('destinations');
  for (const one of destinations) hostIn(parseAddress(one).host, 'destinations');
  const guests = texts(fields, 'guests');
  for (const name of guests ?? []) guestIn(name, 'guests');
  const { min, max } = PARALLEL_RANGE;
  const parallel = wholeNumber(fields, 'parallel', min, max) ?? missing('parallel');
  const bandwidth = number(fields, 'bandwidth', BANDWIDTH_RANGE);
  if (bandwidth !== undefined && bandwidth / parallel < BANDWIDTH_RANGE.min)
    throw refuse(
      'bandwidth',
      `is for all guests: at least ${BANDWIDTH_RANGE.min} for each at once`,
    );
  const retryUpToMs = number(fields, 'retryUpToMs', LIMIT_DURATIONS.maxSuspendMs);
  const move = record(fields.move ?? {}, 'move');
  onlyFields(move, TERMS);
  const by = fields.by === undefined ? undefined : nameOf(fields);
  return {
    destinations,
    parallel,
    order: oneOf(fields, 'order', ORDERS, 'smallest'),
    move: termsOf(move),
    ...(guests === undefined ? {} : { guests }),
    ...(bandwidth === undefined ? {} : { bandwidth }),
    ...(retryUpToMs === undefined ? {} : { retryUpToMs }),
    ...(by === undefined ? {} : { by }),
  };
}

/** What is wanted of a move, whatever is moved and where to. */
const TERMS = [
  ...['policy', 'policyModule', 'limits', 'suspendBandwidth', 'lanes', 'compression', 'verify'],
  ...['persistent', 'undefineSource', 'copyStorage'],
];

function termsOf(fields: Fields): MoveTerms {
  const policy = oneOf(fields, 'policy', ['contract', 'xen', 'custom'] as const, 'contract');
  const limits = limitsOf(fields.limits ?? {});
  checkLimits(policy, limits);
  const policyModule = fields.policyModule === undefined ? undefined : text(fields, 'policyModule');
  if (policyModule !== undefined && !path.isAbsolute(policyModule))
    throw refuse('policyModule', 'is an absolute path');
  if ((policyModule !== undefined) !== (policy === 'custom'))
    throw refuse('policyModule', 'goes with the policy custom, and the other way round');
  const suspendBandwidth = number(fields, 'suspendBandwidth', BANDWIDTH_RANGE);
  const lanes = wholeNumber(fields, 'lanes', 1, MAX_LANES);
  return {
    policy,
    limits,
    compression: oneOf(fields, 'compression', ['auto', 'off'] as const, 'auto'),
    verify: flag(fields, 'verify'),
    ...(policyModule === undefined ? {} : { policyModule }),
    ...(suspendBandwidth === undefined ? {} : { suspendBandwidth }),
    ...(lanes === undefined ? {} : { lanes }),
    ...(flag(fields, 'persistent') ? { persistent: true } : {}),
    ...(flag(fields, 'undefineSource') ? { undefineSource: true } : {}),
    ...(fields.copyStorage === undefined
      ? {}
      : { copyStorage: oneOf(fields, 'copyStorage', ['all', 'inc'] as const, 'all') }),
  };
}

/** Checks the query of `GET /history`. @throws GodwitError bad-option */
export function parseHistoryQuery(query: URLSearchParams): HistoryFilter {
  const fields = Object.fromEntries(query);
  onlyFields(fields, ['since', 'guest', 'outcome', 'limit']);
  const { since, guest, outcome, limit } = fields;
  const at = since === undefined ? undefined : Date.parse(since);
  if (Number.isNaN(at)) throw refuse('since', 'is a time, ISO 8601');
  const most = limit === undefined ? undefined : Number(limit);
  if (most !== undefined && !(Number.isInteger(most) && most > 0))
    throw refuse('limit', 'is a whole number above 0');
  if (outcome !== undefined) oneOf(fields, 'outcome', HISTORY_OUTCOMES, 'running');
  return { since: at, guest, outcome, limit: most };
}

/**
 * Checks the body of `PATCH /migrations/ID`; whether the values fit the running migration is
 * checked there.
 * @throws GodwitError bad-option
 */
export function parseLimitsPatch(body: unknown): LimitsPatch {
  const fields = record(body, 'the request');
  onlyFields(fields, [...LIMIT_FIELDS, ...CAPS]);
  if (Object.keys(fields).length === 0)
    throw new GodwitError('bad-option', 'nothing to change: give at least one limit');
  const { bandwidth: _, suspendBandwidth: __, ...limits } = fields;
  const caps = CAPS.filter((name) => fields[name] !== undefined).map((name) => [
    name,
    fields[name] === null ? null : number(fields, name, BANDWIDTH_RANGE)!,
  ]);
  return { ...(limitsOf(limits) as LimitsPatch), ...Object.fromEntries(caps) };
}

/** What a profile is asked for with. */
export interface ProfileRequest {
  readonly ms: number;
  readonly rehearsal?: Rehearsal;
}

/** Checks the body of `POST /guests/NAME/profile`. @throws GodwitError bad-option */
export function parseProfileRequest(body: unknown): ProfileRequest {
  const fields = record(body, 'the request');
  onlyFields(fields, ['ms', 'rehearsal']);
  const ms = number(fields, 'ms', PROFILE_RANGE) ?? missing('ms');
  if (fields.rehearsal === undefined) return { ms };
  const rehearsal = record(fields.rehearsal, 'rehearsal');
  onlyFields(rehearsal, ['bandwidth']);
  const bandwidth = number(rehearsal, 'bandwidth', BANDWIDTH_RANGE);
  return { ms, rehearsal: bandwidth === undefined ? {} : { bandwidth } };
}

/** A name that a guest may have. @throws GodwitError unknown-guest */
export function guestName(text: string): string {
  if (isGuestName(text)) return text;
  throw new GodwitError('unknown-guest', GUEST_NAME_RULE);
}

/** Checks the body of `POST /migrations/ID/cutover`, if it has one. @throws GodwitError bad-option */
export function parseCutover(body: unknown): { readonly force: boolean } {
  const fields = record(body, 'the request');
  onlyFields(fields, ['force']);
  return { force: flag(fields, 'force') };
}

/** A person's decision, and who that is. */
export interface Decision {
  readonly choice: Choice;
  readonly by: string;
}

/** Checks the body of `POST /migrations/ID/resolve`. @throws GodwitError bad-option */
export function parseDecision(body: unknown): Decision {
  const fields = record(body, 'the request');
  onlyFields(fields, ['choice', 'by']);
  const choice = text(fields, 'choice');
  if (choice !== 'keep-here' && choice !== 'give-up')
    throw refuse('choice', 'is keep-here or give-up');
  return { choice, by: nameOf(fields) };
}

function nameOf(fields: Fields): string {
  const by = text(fields, 'by');
  if (by.length <= MAX_BY && PRINTABLE.test(by)) return by;
  throw refuse('by', `says who decides, in at most ${MAX_BY} printable characters`);
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
    if (name === 'hold' && (limit === null || isHold(limit))) continue;
    if (name === 'hold') throw refuse(name, `is ${HOLD_RULE}`);
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

function guestIn(name: string, field: string): string {
  if (isGuestName(name)) return name;
  throw refuse(field, `cannot be ${JSON.stringify(name.slice(0, 80))}: ${GUEST_NAME_RULE}`);
}

function hostIn(host: string, field: string): string {
  if (/^[\w.:%-]{1,255}$/.test(host)) return host;
  throw refuse(field, 'is a host name or an address');
}

/** Different texts, one at least; undefined when there is no such field. */
function texts(fields: Fields, name: string): readonly string[] | undefined {
  const value = fields[name];
  if (value === undefined) return undefined;
  const all: readonly unknown[] = Array.isArray(value) ? value : [];
  const isText = (one: unknown) => typeof one === 'string' && one !== '' && one.length <= 4096;
  if (all.length > 0 && all.every(isText) && new Set(all).size === all.length)
    return all as readonly string[];
  throw refuse(name, 'is a list of different texts, not empty');
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
