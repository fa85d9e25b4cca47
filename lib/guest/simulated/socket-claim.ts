import { readlinkSync, rmSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Claim } from '../../claim.ts';
import { makeDirectory } from '../../directory.ts';
import { GodwitError } from '../../errors.ts';

/** The control socket of a guest. */
export function socketPath(dir: string, name: string): string {
  return join(dir, `${name}.sock`);
}

/** A link to the guest's RAM file, by which the memory of a VMM that was killed is found. */
export function ramLinkPath(dir: string, name: string): string {
  return join(dir, `${name}.ram`);
}

/** What a VMM has of its name: the path of its control socket, and the claim that it removes at its end. */
export interface ClaimedName {
  readonly path: string;
  readonly claim: Claim;
}

/**
 * Makes sure that no other live VMM has this name in this directory, and removes the socket and the
 * memory of a dead one. The name is this process's until it ends, however it ends.
 * @throws GodwitError guest-exists, listen-failed, claim-failed
 */
export async function claimSocket(dir: string, name: string): Promise<ClaimedName> {
  try {
    makeDirectory(dir);
  } catch (cause) {
    throw new GodwitError('listen-failed', `cannot create ${dir}: ${(cause as Error).message}`, {
      cause,
    });
  }
  const path = socketPath(dir, name);
  const claim = await Claim.take(join(dir, `${name}.lock`));
  // A VMM of an earlier version holds no lock, but it answers.
  if (claim === undefined || (await answers(path))) {
    claim?.remove();
    throw new GodwitError('guest-exists', `a guest named ${name} exists already in ${dir}`);
  }
  rmSync(path, { force: true });
  removeLinkedRam(ramLinkPath(dir, name));
  return { path, claim };
}

/**
 * Removes what VMMs that were killed have left in a directory: whoever can claim their name knows that
 * nobody has it. @param isOpen whether a journal knows an open migration of a guest of that name
 * @returns the names of their guests
 */
export async function removeRemains(
  dir: string,
  isOpen: (guest: string) => boolean,
): Promise<string[]> {
  const files = await readdir(dir).catch(() => []); // there is nothing in it
  const names = new Set(files.map((file) => /^(.+)\.(?:sock|ram|lock)$/.exec(file)?.[1]));
  const dead: string[] = [];
  for (const name of names) {
    if (name === undefined || isOpen(name)) continue;
    const claimed = await claimSocket(dir, name).catch(() => undefined); // it is somebody's
    if (claimed === undefined) continue;
    claimed.claim.remove();
    dead.push(name);
  }
  return dead;
}

function removeLinkedRam(link: string): void {
  try {
    rmSync(readlinkSync(link), { force: true });
    rmSync(link);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

/** True when a process listens on the socket. */
export async function answers(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const probe = connect(path, () => resolve(true));
  probe.once('error', () => resolve(false));
  const answered = await promise;
  probe.destroy();
  return answered;
}
