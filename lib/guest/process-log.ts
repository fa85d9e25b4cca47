import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { lastLines } from './last-lines.ts';

/** A complaint is a few lines of up to a few hundred bytes. */
const TAIL_BYTES = 8 * 1024;

/**
 * What one run of a program prints, at the end of a file that may hold what earlier ones printed. A
 * file, because a pipe would end with the agent and have to be read until then.
 */
export class ProcessLog {
  readonly path: string;
  /** For the new process; `close` it here once that has it. */
  readonly fd: number;
  readonly #from: number;

  /** @throws what opening fails with */
  constructor(path: string) {
    this.path = path;
    this.fd = openSync(path, 'a', 0o600);
    this.#from = fstatSync(this.fd).size;
  }

  close(): void {
    closeSync(this.fd);
  }

  /** The program's last lines in one, empty when it has said nothing. */
  lastWords(lines: number): string {
    const tail = Buffer.alloc(TAIL_BYTES);
    let length = 0;
    try {
      const fd = openSync(this.path, 'r');
      const from = Math.max(this.#from, fstatSync(fd).size - TAIL_BYTES);
      length = readSync(fd, tail, 0, TAIL_BYTES, from);
      closeSync(fd);
    } catch {
      // a log that was taken away says nothing
    }
    return lastLines(tail.toString('utf8', 0, length), lines);
  }
}
