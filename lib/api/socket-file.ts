import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { makeDirectory } from '../directory.ts';
import { GodwitError } from '../errors.ts';

/**
 * Makes the directory of a socket that an agent serves and removes one that a dead daemon left there. What
 * is no socket is not touched.
 * @param what the socket is, for errors
 * @param option that says where it is
 * @throws GodwitError listen-failed; bad-option for a place that can never be used
 */
export async function claimSocket(
  file: string,
  what = 'control socket',
  option = '--socket',
): Promise<void> {
  makePrivateDirectory(path.dirname(file), what, option);
  const found = fs.lstatSync(file, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket())
    throw new GodwitError(
      'bad-option',
      `${file} exists and is not a socket; choose another ${option}`,
    );
  if (await answers(file))
    throw refuse(`another daemon serves the ${what} ${file}; stop it or choose ${option}`);
  fs.rmSync(file, { force: true });
}

/** In a directory of somebody else the socket could be exchanged for theirs. */
function makePrivateDirectory(dir: string, what: string, option: string): void {
  try {
    makeDirectory(dir);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw refuse(`the directory ${dir} of the ${what} cannot be made: ${code}`, cause);
  }
  const { uid } = fs.statSync(dir);
  if (uid !== 0 && uid !== process.getuid?.())
    throw new GodwitError(
      'bad-option',
      `the directory ${dir} of the ${what} belongs to user ${uid}; choose another ${option}`,
    );
}

/** Whoever made the socket is there, also one that stands still: then its backlog is full (EAGAIN). */
async function answers(file: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const probe = net.connect(file, () => resolve(true));
  probe.once('error', ({ code }: NodeJS.ErrnoException) => {
    resolve(code !== 'ECONNREFUSED' && code !== 'ENOENT');
  });
  const answered = await promise;
  probe.destroy();
  return answered;
}

function refuse(message: string, cause?: unknown): GodwitError {
  return new GodwitError('listen-failed', message, { cause });
}
