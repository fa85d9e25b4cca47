import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { Claim } from '../claim.ts';
import { makeDirectory } from '../directory.ts';
import { GodwitError } from '../errors.ts';
import { isGuestName } from '../guest-name.ts';
import { poll } from '../poll.ts';
import { replaceFile } from '../replace-file.ts';
import type { GuestRecord, RecordStore } from './guest-record.ts';

/** Writing one small file, on a slow disk. */
const ID_LIMIT_MS = 5_000;

/** Records as files, one a guest, in a directory of the agents' own. */
export class RecordFiles implements RecordStore {
  readonly dir: string;
  /** Tells these records from those of another directory. */
  readonly id: string;

  private constructor(dir: string, id: string) {
    this.dir = dir;
    this.id = id;
  }

  /** @throws GodwitError journal-failed */
  static async open(dir: string): Promise<RecordFiles> {
    try {
      makeDirectory(dir);
      return new RecordFiles(dir, await idOf(dir));
    } catch (cause) {
      if (cause instanceof GodwitError) throw cause;
      throw failed(dir, 'used', cause);
    }
  }

  /** The id of the records there, if they have one yet. */
  static idIn(dir: string): string | undefined {
    const file = path.join(dir, 'id');
    return fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trim() : undefined;
  }

  read(guest: string): GuestRecord | undefined {
    const file = this.#file(guest);
    let text: string;
    try {
      text = fs.readFileSync(file, 'utf8');
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw failed(file, 'read', cause);
    }
    return parse(file, text);
  }

  async write(record: GuestRecord): Promise<void> {
    const file = this.#file(record.guest);
    try {
      await replaceFile(file, `${JSON.stringify(record)}\n`);
    } catch (cause) {
      throw failed(file, 'written', cause);
    }
  }

  take(guest: string): Promise<Claim | undefined> {
    return Claim.take(path.join(this.dir, `${guest}.claim`));
  }

  guests(): readonly string[] {
    return fs
      .readdirSync(this.dir)
      .filter((name) => name.endsWith('.json'))
      .map((name) => name.slice(0, -'.json'.length))
      .filter(isGuestName);
  }

  #file(guest: string): string {
    return path.join(this.dir, `${guest}.json`);
  }
}

/** Both agents of a host may start here at the same moment, for the first time. */
async function idOf(dir: string): Promise<string> {
  const file = path.join(dir, 'id');
  const id = await poll(ID_LIMIT_MS, 20, async () => {
    if (fs.existsSync(file)) return fs.readFileSync(file, 'utf8').trim();
    const claim = await Claim.take(path.join(dir, 'id.claim'));
    if (claim === undefined) return undefined;
    try {
      if (!fs.existsSync(file)) await replaceFile(file, `${randomUUID()}\n`);
    } finally {
      claim.release();
    }
    return fs.readFileSync(file, 'utf8').trim();
  });
  if (id !== undefined) return id;
  throw new GodwitError('journal-failed', `${dir}: another agent does not get through with it`);
}

function parse(file: string, text: string): GuestRecord {
  try {
    const record: GuestRecord = JSON.parse(text);
    if (Number.isSafeInteger(record.epoch) && typeof record.migration === 'string') return record;
  } catch {
    // said below
  }
  const why = `${file} is damaged: whoever has the guest cannot be told from it; see "When something is wrong"`;
  throw new GodwitError('journal-invalid', why);
}

function failed(file: string, what: string, cause: unknown): GodwitError {
  const text = `${file} cannot be ${what}: ${(cause as Error).message}`;
  return new GodwitError('journal-failed', text, { cause });
}
