import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { GodwitError } from '../../errors.ts';
import type { ProcessIdentity } from '../process-identity.ts';

/** The kernel's sun_path has 108 bytes, one of them a NUL. */
const MAX_SOCKET_PATH = 107;
const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = fs.constants;

/**
 * A place for a Unix socket on which this process listens and to which QEMU connects, whoever it runs
 * as. It is beside QEMU's monitor, where QEMU can reach it, and there QEMU may be able to put anything
 * under any name. So the socket is in a directory of ours in which nobody else can make or rename
 * anything, and we go to it by the open directory, never by its path.
 */
export class StreamSocket {
  /** For QEMU. */
  readonly path: string;
  /** For this process, to listen on. */
  readonly listenPath: string;
  readonly #parent: number;
  readonly #dir: number;
  /** The directory, where its name stands. */
  readonly #own: string;
  #removed = false;

  /** @throws GodwitError listen-failed */
  constructor(monitor: string) {
    const [beside, dir] = [path.dirname(monitor), `${path.basename(monitor)}.out`];
    // No other file is called so: what is done to it by mistake is done to nothing.
    const socket = randomBytes(4).toString('hex');
    this.path = path.join(beside, dir, socket);
    let parent: number | undefined;
    try {
      if (Buffer.byteLength(this.path) > MAX_SOCKET_PATH)
        throw new Error(`${this.path} is longer than ${MAX_SOCKET_PATH} bytes`);
      parent = fs.openSync(beside, O_RDONLY | O_DIRECTORY);
      this.#parent = parent;
      this.#own = `/proc/self/fd/${parent}/${dir}`;
      this.#dir = ownDirectory(this.#own);
    } catch (cause) {
      if (parent !== undefined) fs.closeSync(parent);
      const why = (cause as Error).message;
      const text = `no place beside ${monitor} for the socket that QEMU migrates to: ${why}`;
      throw new GodwitError('listen-failed', text, { cause });
    }
    this.listenPath = `/proc/self/fd/${this.#dir}/${socket}`;
  }

  /** Lets that process connect, and nobody else but root. @throws GodwitError listen-failed */
  giveTo({ pid }: ProcessIdentity): void {
    try {
      const { uid, gid } = ownerOf(pid);
      fs.lchownSync(this.listenPath, uid, gid);
      fs.fchmodSync(this.#dir, 0o711);
    } catch (cause) {
      const text = `QEMU cannot be given ${this.path}: ${(cause as Error).message}`;
      throw new GodwitError('listen-failed', text, { cause });
    }
  }

  /** Nobody connects any more. */
  remove(): void {
    if (this.#removed) return;
    this.#removed = true;
    fs.rmSync(this.listenPath, { force: true });
    try {
      fs.rmdirSync(this.#own);
    } catch {
      // QEMU's user has moved it: it is empty
    }
    fs.closeSync(this.#dir);
    fs.closeSync(this.#parent);
  }
}

/**
 * Made, or taken over from an agent that died, and opened: what stands there under its name by then
 * is ours, and closed to others, or refused.
 */
function ownDirectory(dir: string): number {
  const found = fs.lstatSync(dir, { throwIfNoEntry: false });
  if (found !== undefined && !found.isDirectory()) fs.rmSync(dir); // a link goes, not what it points to
  if (!found?.isDirectory()) fs.mkdirSync(dir, { mode: 0o700 });
  const fd = fs.openSync(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  try {
    const { uid, mode } = fs.fstatSync(fd);
    if (uid !== process.geteuid!() || mode & 0o022)
      throw new Error('the directory that is there belongs to somebody else');
    fs.fchmodSync(fd, 0o700);
    for (const name of fs.readdirSync(`/proc/self/fd/${fd}`))
      fs.rmSync(`/proc/self/fd/${fd}/${name}`);
    return fd;
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
}

/** As whom a process connects: its file system user and group, proc(5). */
function ownerOf(pid: number): { uid: number; gid: number } {
  const status = fs.readFileSync(`/proc/${pid}/status`, 'latin1');
  const [uid, gid] = ['Uid', 'Gid'].map((field) =>
    Number(new RegExp(`^${field}:\\t\\d+\\t\\d+\\t\\d+\\t(\\d+)$`, 'm').exec(status)?.[1]),
  );
  return { uid: uid!, gid: gid! };
}
