import assert from 'node:assert/strict';
import { GodwitError } from '../errors.ts';
import { GUEST_NAME_RULE, isGuestName } from '../guest/guest.ts';
import { GuestLayout, PAGE_SIZE } from '../memory/guest-layout.ts';
import { WIRE_VERSION } from './frame.ts';
import { kindOf } from './kinds.ts';
import type { Accept, GuestOffer, Hello, Limits, Welcome } from './messages.ts';

/** Data connections of one migration. */
export const MAX_CHANNELS = 64;
/** Unacknowledged page batches on one channel. */
export const MAX_WINDOW = 64;
/** Bytes of payload in one page batch. */
export const MAX_BATCH_PAYLOAD = kindOf('PageBatch').payload;
/** Bytes of the secret that binds data connections to their session. */
export const SECRET_SIZE = 16;

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
  assert(limits.channels <= MAX_CHANNELS);
  assert(limits.window <= MAX_WINDOW);
  assert(limits.batchPayload <= MAX_BATCH_PAYLOAD);
  return { minVersion: WIRE_VERSION, maxVersion: WIRE_VERSION, agent, features, limits };
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
      channels: Math.min(hello.limits.channels, own.limits.channels),
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
  for (const name of ['channels', 'batchPayload', 'window'] as const)
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
  return new GuestLayout(offer.regions);
}

/** @throws GodwitError bad-message unless there is a port for each channel and a secret */
export function checkAccept(accept: Accept, channels: number): void {
  const { dataPorts, secret, verifyRate } = accept;
  if (dataPorts.length !== channels)
    throw badMessage(`Accept names ${dataPorts.length} data ports for ${channels} channels`);
  const wrong = dataPorts.find((port) => port < 1 || port > 65535);
  if (wrong !== undefined) throw badMessage(`Accept names data port ${wrong}`);
  if (secret.length !== SECRET_SIZE)
    throw badMessage(`the channel secret has ${secret.length} bytes, not ${SECRET_SIZE}`);
  if (verifyRate < 0) throw badMessage(`Accept tells a verify rate of ${verifyRate}`);
}

/**
 * Each limit has a floor below which no migration works. Above the ceilings of this version a peer
 * may offer what it likes: the smaller value is chosen.
 */
function checkLimits(where: string, limits: Limits): void {
  if (limits.channels < 1 || limits.window < 1 || limits.batchPayload < PAGE_SIZE)
    throw badMessage(
      `${where} limits a migration to ${limits.channels} channels, ${limits.window} batches and ` +
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
