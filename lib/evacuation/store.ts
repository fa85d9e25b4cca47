import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { log } from '../log.ts';
import { replaceFile } from '../replace-file.ts';
import type { EvacuationRecord } from './view.ts';

/** The newest evacuation of an agent, as a file that is replaced in one step. */
export class EvacuationStore {
  readonly #file: string;
  /** What an earlier run has left. */
  readonly kept: EvacuationRecord | undefined;
  #tail: Promise<void> = Promise.resolve();

  private constructor(file: string, kept: EvacuationRecord | undefined) {
    this.#file = file;
    this.kept = kept;
  }

  /** A damaged file is none, and that is said: its guests are where they are. */
  static async open(stateDir: string): Promise<EvacuationStore> {
    const file = path.join(stateDir, 'evacuation.json');
    try {
      const record: unknown = JSON.parse(await readFile(file, 'utf8'));
      if (!isRecord(record)) throw new Error('a field is missing or impossible');
      return new EvacuationStore(file, record);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT')
        log('error', `${file} cannot be read, so its evacuation does not go on: ${message}`);
      return new EvacuationStore(file, undefined);
    }
  }

  /** Durable when it resolves; what was handed in later is written later. @throws Error of the system */
  write(record: EvacuationRecord): Promise<void> {
    const written = this.#tail.then(() => replaceFile(this.#file, `${JSON.stringify(record)}\n`));
    this.#tail = written.catch(() => {});
    return written;
  }

  /** Resolves when nothing is being written. */
  async idle(): Promise<void> {
    await this.#tail;
  }
}

function isRecord(value: unknown): value is EvacuationRecord {
  const record = value as EvacuationRecord;
  const { id, startedAt, destinations, parallel, leaving, leftOut, move } = record;
  return (
    [id, startedAt, ...destinations].every((text) => typeof text === 'string') &&
    destinations.length > 0 &&
    Number.isInteger(parallel) &&
    Array.isArray(leftOut) &&
    typeof move.limits === 'object' &&
    leaving.every(
      ({ name, tries, troubles, detours, refused, raisedMs }) =>
        typeof name === 'string' &&
        [tries, troubles, detours].every(Number.isInteger) &&
        Array.isArray(refused) &&
        Array.isArray(raisedMs),
    )
  );
}
