import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { GodwitError } from '../errors.ts';

/**
 * Makes the directory of a control socket and removes a socket that a dead daemon left there. What
 * is no socket is not touched.
 * @throws GodwitError listen-failed
 */
export async function claimSocket(file: string): Promise<void> {
  makePrivateDirectory(path.dirname(file));
  const found = fs.lstatSync(file, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket())
    throw refuse(`${file} exists and is not a socket; choose another --socket`);
  if (await answers(file))
    throw refuse(`another daemon serves the control socket ${file}; stop it or choose --socket`);
  fs.rmSync(file, { force: true });
}

/** In a directory of somebody else the socket could be exchanged for theirs. */
function makePrivateDirectory(dir: string): void {
  try {
    fs.mkdirSync(dir, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw refuse(`the directory ${dir} of the control socket cannot be made: ${code}`, cause);
  }
  const { uid } = fs.statSync(dir);
  if (uid !== 0 && uid !== process.getuid?.())
    throw refuse(`the directory ${dir} of the control socket belongs to user ${uid}`);
}

async function answers(file: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const probe = net.connect(file, () => resolve(true));
  probe.once('error', () => resolve(false));
  const answered = await promise;
  probe.destroy();
  return answered;
}

function refuse(message: string, cause?: unknown): GodwitError {
  return new GodwitError('listen-failed', message, { cause });
}
