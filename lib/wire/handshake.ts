import assert from 'node:assert/strict';
import { GodwitError } from '../errors.ts';
import { GUEST_NAME_RULE, isGuestName } from '../guest-name.ts';
import { GuestLayout, PAGE_SIZE } from '../memory/guest-layout.ts';
import { kindOf } from './kinds.ts';
import type { Accept, Check, CheckAnswer, GuestOffer, Hello, Limits, Welcome } from './messages.ts';

/** What the messages mean and in which order they come; the frame has a version of its own. */
export const PROTOCOL_VERSION = 3;
/** Data connections of one migration. */
export const MAX_LANES = 64;
/** Unacknowledged page batches on one lane. */
export const MAX_WINDOW = 64;
/** Bytes of payload in one page batch. */
export const MAX_BATCH_PAYLOAD = kindOf('PageBatch').payload;
/** Bytes of the secret that binds data connections to their migration. */
export const SECRET_SIZE = 16;
/** Bytes of the secret that a kept copy is hashed with. */
export const KEPT_SECRET_SIZE = 32;
/** What a check may have: findings, characters of the text of one. */
export const MAX_FINDINGS = 32;
export const MAX_FINDING_TEXT = 500;

const MIGRATION_ID = /^[0-9a-f]{16}$/;

/** What this program can do, before it has met a peer. */
export interface Terms {
  readonly minVersion: number;
  readonly maxVersion: number;
  /** Name and version of the program, for logs. */
  readonly agent: string;
  readonly features: readonly string[];
  readonly limits: Limits;
}

/** The terms of this version, within limits that do not exceed the wire's own. */
export function ownTerms(agent: string, features: readonly string[], limits: Limits): Terms {
  assert(limits.lanes <= MAX_LANES);
  assert(limits.window <= MAX_WINDOW);
  assert(limits.batchPayload <= MAX_BATCH_PAYLOAD);
  return { minVersion: PROTOCOL_VERSION, maxVersion: PROTOCOL_VERSION, agent, features, limits };
}

export function helloMessage(own: Terms): Hello {
  const { minVersion, maxVersion, agent, features, limits } = own;
  return { minVersion, maxVersion, agent, features, limits };
}

/**
 * The receiver's choice: the highest common version, the features of both, the smaller limits.
 * @throws GodwitError bad-version without a common version, bad-message for an impossible Hello
 */
export function chooseWelcome(hello: Hello, own: Terms): Welcome {
  if (hello.minVersion > hello.maxVersion)
    throw badMessage(`Hello offers versions ${hello.minVersion} to ${hello.maxVersion}`);
  checkLimits('Hello', hello.limits);
  const version = Math.min(hello.maxVersion, own.maxVersion);
  if (version < Math.max(hello.minVersion, own.minVersion))
    throw new GodwitError(
      'bad-version',
      `no common protocol version: the sender speaks ${versions(hello)}, the receiver ${versions(own)}`,
    );
  return {
    version,
    agent: own.agent,
    features: own.features.filter((feature) => hello.features.includes(feature)),
    limits: {
      lanes: Math.min(hello.limits.lanes, own.limits.lanes),
      batchPayload: Math.min(hello.limits.batchPayload, own.limits.batchPayload),
      window: Math.min(hello.limits.window, own.limits.window),
    },
  };
}

/**
 * Checks that a receiver chose only what was offered.
 * @throws GodwitError bad-version, bad-message
 */
export function checkWelcome(hello: Hello, welcome: Welcome): void {
  const { version, features, limits } = welcome;
  if (version < hello.minVersion || version > hello.maxVersion)
    throw new GodwitError(
      'bad-version',
      `the receiver chose protocol version ${version}; the sender speaks ${versions(hello)}`,
    );
  const strange = features.find((feature) => !hello.features.includes(feature));
  if (strange !== undefined)
    throw badMessage(`the receiver chose feature "${strange}", which was not offered`);
  checkLimits('Welcome', limits);
  for (const name of ['lanes', 'batchPayload', 'window'] as const)
    if (limits[name] > hello.limits[name])
      throw badMessage(`the receiver chose ${name} ${limits[name]} of ${hello.limits[name]}`);
}

/**
 * Checks what can be checked about an offer without knowing the host.
 * @returns the guest's layout
 * @throws GodwitError bad-message
 */
export function checkGuestOffer(offer: GuestOffer): GuestLayout {
  if (!MIGRATION_ID.test(offer.migration))
    throw badMessage('a migration id has 16 lower-case hexadecimal digits');
  if (!isGuestName(offer.guest)) throw badMessage(GUEST_NAME_RULE);
  if (offer.pageSize !== PAGE_SIZE)
    throw badMessage(`page size ${offer.pageSize}; only ${PAGE_SIZE} is supported`);
  if (offer.keptSecret.length !== 0 && offer.keptSecret.length !== KEPT_SECRET_SIZE)
    throw badMessage(`the secret for kept memory has ${offer.keptSecret.length} bytes`);
  return new GuestLayout(offer.regions);
}

/** Checks what can be checked about a check without knowing the host. @throws GodwitError bad-message */
export function requireCheck({ id, guest, memory, lanes }: Check, welcome: Welcome): void {
  if (!MIGRATION_ID.test(id))
    throw badMessage('the id of a check has 16 lower-case hexadecimal digits');
  if (!isGuestName(guest)) throw badMessage(GUEST_NAME_RULE);
  if (memory < PAGE_SIZE || memory % PAGE_SIZE !== 0)
    throw badMessage(`a guest with ${memory} bytes of memory`);
  if (lanes < 1 || lanes > welcome.limits.lanes)
    throw badMessage(`a check over ${lanes} lanes, of ${welcome.limits.lanes} agreed`);
}

/** @throws GodwitError bad-message unless findings are such, and each lane has a port or none has */
export function requireCheckAnswer(answer: CheckAnswer, lanes: number): void {
  const { findings, verifyRate, dataPorts, secret } = answer;
  if (findings.length > MAX_FINDINGS)
    throw badMessage(`CheckAnswer has ${findings.length} findings`);
  for (const { about, verdict, code, text } of findings)
    if (
      !/^[a-z][a-z-]{0,31}$/.test(about) ||
      !['ok', 'no', 'unknown'].includes(verdict) ||
      !/^[a-z-]{0,40}$/.test(code) ||
      text.length > MAX_FINDING_TEXT
    )
      throw badMessage('CheckAnswer has a finding that is none');
  if (dataPorts.length > 0)
    checkAccept(
      {
        ...{ journalMs: 0, placement: '', epoch: 0, diskPort: 0, keptPages: 0 },
        ...{ dataPorts, secret, verifyRate },
      },
      lanes,
    );
}

/** @throws GodwitError bad-message unless there is a port for each lane and a secret */
export function checkAccept(accept: Accept, lanes: number): void {
  const { dataPorts, secret, verifyRate, diskPort } = accept;
  if (dataPorts.length !== lanes)
    throw badMessage(`Accept names ${dataPorts.length} data ports for ${lanes} lanes`);
  const ports = diskPort === 0 ? dataPorts : [...dataPorts, diskPort];
  const wrong = ports.find((port) => port < 1 || port > 65535);
  if (wrong !== undefined) throw badMessage(`Accept names data port ${wrong}`);
  if (secret.length !== SECRET_SIZE)
    throw badMessage(`the lane secret has ${secret.length} bytes, not ${SECRET_SIZE}`);
  if (verifyRate < 0) throw badMessage(`Accept tells a verify rate of ${verifyRate}`);
}

/**
 * Each limit has a floor below which no migration works. Above the ceilings of this version a peer
 * may offer what it likes: the smaller value is chosen.
 */
function checkLimits(where: string, limits: Limits): void {
  if (limits.lanes < 1 || limits.window < 1 || limits.batchPayload < PAGE_SIZE)
    throw badMessage(
      `${where} limits a migration to ${limits.lanes} lanes, ${limits.window} batches and ` +
        `${limits.batchPayload} bytes a batch; at least 1, 1 and ${PAGE_SIZE} are needed`,
    );
}

function versions({ minVersion, maxVersion }: { minVersion: number; maxVersion: number }): string {
  return minVersion === maxVersion
    ? `version ${minVersion}`
    : `versions ${minVersion} to ${maxVersion}`;
}

function badMessage(text: string): GodwitError {
  return new GodwitError('bad-message', text);
}
