import { lookup } from 'node:dns/promises';
import fs from 'node:fs';
import path from 'node:path';
import { requireOwned } from '../claim.ts';
import { defaultPaths } from '../daemon/paths.ts';
import { GodwitError } from '../errors.ts';
import { troublesOf } from '../wire/certificates.ts';
import { checkListenAddress } from '../wire/connect.ts';
import type { Credentials, Security } from '../wire/credentials.ts';
import type { CommonOptions } from './serve-options.ts';

/** Certificates that nobody would believe, or that let nobody be believed. @throws GodwitError bad-option */
export function requireSound(credentials: Credentials | undefined, now: number): void {
  const [trouble] = credentials === undefined ? [] : troublesOf(credentials, now);
  if (trouble !== undefined) throw new GodwitError('bad-option', trouble);
}

/** Where the agent keeps its own things, and what has to be there before it. @throws GodwitError bad-option */
export function requirePlaces(options: CommonOptions): void {
  const { stateDir, hostDir, ramDir, definitions, metricsTextfile } = options;
  for (const [name, dir] of [
    ['state-dir', stateDir],
    ['host-dir', hostDir],
  ] as const) {
    try {
      if (fs.existsSync(dir)) requireOwned(dir);
    } catch (cause) {
      throw refuse(name, dir, (cause as Error).message, cause);
    }
  }
  if (!fs.existsSync(ramDir)) throw refuse('ram-dir', ramDir, 'it is not there');
  if (metricsTextfile !== undefined && !fs.existsSync(path.dirname(metricsTextfile)))
    throw refuse('metrics-textfile', metricsTextfile, 'its directory is not there');
  // Hosts without QEMU guests need not have the usual one.
  const isUsual = definitions === defaultPaths('agent-send').definitions;
  if (!isUsual && !fs.existsSync(definitions))
    throw refuse('definitions', definitions, 'it is not there');
}

/** Where the receiver would listen. @throws GodwitError bad-option */
export async function requireListenable(host: string, security: Security): Promise<void> {
  const found = await lookup(host).catch((cause) => {
    throw new GodwitError('bad-option', `--listen: ${host} cannot be found`, { cause });
  });
  try {
    checkListenAddress(found.address, security);
  } catch (cause) {
    throw new GodwitError('bad-option', `--listen: ${(cause as Error).message}`, { cause });
  }
}

function refuse(name: string, dir: string, why: string, cause?: unknown): GodwitError {
  return new GodwitError('bad-option', `--${name} ${dir} cannot be used: ${why}`, { cause });
}
