import { createHash } from 'node:crypto';
import { mkdirSync, readlinkSync, realpathSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { GodwitError } from '../../errors.ts';

/** The control socket of a guest. */
export function socketPath(dir: string, name: string): string {
  return join(dir, `${name}.sock`);
}

/** A link to the guest's RAM file, by which the memory of a VMM that was killed is found. */
export function ramLinkPath(dir: string, name: string): string {
  return join(dir, `${name}.ram`);
}

/**
 * Makes sure that no other live VMM has this name in this directory, and removes the socket and the
 * memory of a dead one. The name is held by an abstract socket, which the kernel frees when the process ends
 * however it ends, so that of two starts at the same time one is refused.
 * @throws GodwitError guest-exists, listen-failed
 */
export async function claimSocket(dir: string, name: string): Promise<string> {
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new GodwitError('listen-failed', `cannot create ${dir}: ${(cause as Error).message}`, {
      cause,
    });
  }
  const path = socketPath(dir, name);
  const id = createHash('sha256')
    .update(`${realpathSync(dir)}/${name}`)
    .digest('hex');
  // The abstract name counts within a network namespace, the socket file across them: ask both.
  if (!(await isFree(`\0godwit-guest-${id}`)) || (await answers(path)))
    throw new GodwitError('guest-exists', `a guest named ${name} exists already in ${dir}`);
  rmSync(path, { force: true });
  removeLinkedRam(ramLinkPath(dir, name));
  return path;
}

function removeLinkedRam(link: string): void {
  try {
    rmSync(readlinkSync(link), { force: true });
    rmSync(link);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

async function isFree(abstractName: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const holder = createServer();
  holder.once('error', () => resolve(false));
  holder.listen(abstractName, () => resolve(true));
  holder.unref();
  return promise;
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
