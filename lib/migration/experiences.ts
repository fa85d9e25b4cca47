import { createHash } from 'node:crypto';
import { appendFile, readFile } from 'node:fs/promises';
import path from 'node:path';
import { log } from '../log.ts';
import { type Experience, type Lessons, lessonsFor, type Subject } from '../precopy/calibration.ts';
import type { MoveForecast, PastMove, WaitingForecast } from '../precopy/past-moves.ts';
import { replaceFile } from '../replace-file.ts';

/** Lines that are kept; a file that has grown to twice as many is cut. */
const KEPT = 2000;

/** A forecast of a check that is older was of another guest, and of another link. */
const WAITS_MS = 3_600_000;

/** One line. */
type Remembered = Experience | PastMove | WaitingForecast;

/** What a forecast is about; the machine may be described in thousands of bytes. */
export function subjectOf({
  name: guest,
  machine,
  ...known
}: Omit<Subject, 'guest' | 'deviceModel'> & {
  readonly name: string;
  readonly machine: string;
}): Subject {
  const { hypervisor, peer, totalPages, deviceStateBytes } = known;
  const deviceModel = createHash('sha256').update(machine).digest('hex').slice(0, 16);
  return { guest, hypervisor, deviceModel, peer, totalPages, deviceStateBytes };
}

/**
 * What an agent remembers of suspensions, of moves and of forecasts before them: a file of JSON lines
 * that is only added to.
 */
export class Experiences {
  readonly #file: string;
  #all: readonly Remembered[];
  /** Lines of the file. */
  #lines: number;
  /** The file does not end with a whole line: the next one begins on a fresh one. */
  #torn: boolean;
  /** Those that the disk has not taken yet. */
  readonly #unwritten: string[] = [];
  #writing: Promise<void> | undefined;

  private constructor(file: string, all: readonly Remembered[], lines: number, torn: boolean) {
    this.#file = file;
    this.#all = all;
    this.#lines = lines;
    this.#torn = torn;
  }

  /** Reads what earlier runs have left; what cannot be read teaches nothing, and is said. */
  static async open(stateDir: string): Promise<Experiences> {
    const file = path.join(stateDir, 'experiences.ndjson');
    let lines: string[] = [];
    let torn = false;
    try {
      const text = await readFile(file, 'utf8');
      torn = !/(^|\n)$/.test(text);
      // One that was written and is told to have failed was written again.
      lines = text.split('\n').filter((line, i, all) => line !== '' && line !== all[i - 1]);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') complain(error);
    }
    const all = newest(lines.flatMap(parse));
    const opened = new Experiences(file, all, lines.length, torn);
    if (lines.length > 2 * KEPT) await opened.#cut().catch(complain);
    return opened;
  }

  /** Suspensions, the oldest first. */
  get all(): readonly Experience[] {
    return this.#all.filter((one): one is Experience => !('kind' in one));
  }

  get moves(): readonly PastMove[] {
    return this.ways.filter((one) => one.kind === 'move');
  }

  /** Moves, and checks whose forecasts may wait for one. */
  get ways(): readonly (PastMove | WaitingForecast)[] {
    return this.#all.filter((one) => 'kind' in one);
  }

  lessonsFor(subject: Subject): Lessons {
    return lessonsFor(subject, this.all);
  }

  /** What a check has foretold for a move that begins now; one that came since has used it up. */
  foretoldBy({ guest, peer }: Subject, terms: string): MoveForecast | undefined {
    const last = this.ways.findLast(
      (one) => one.guest === guest && (one.kind === 'move' || one.peer === peer),
    );
    if (last?.kind !== 'forecast' || last.terms !== terms) return undefined;
    const ageMs = Date.now() - Date.parse(last.time);
    return ageMs >= 0 && ageMs <= WAITS_MS ? last.forecast : undefined;
  }

  /**
   * Counts from now on; that it is written down is not waited for. What a full disk does not take is
   * tried again with the next one.
   */
  add(experience: Remembered): void {
    this.#all = [...this.#all, experience];
    if (this.#all.length > 2 * KEPT) this.#all = newest(this.#all);
    this.#unwritten.push(lineOf(experience));
    if (this.#unwritten.length > KEPT) this.#unwritten.shift();
    this.#writing ??= this.#write()
      .catch(complain)
      .finally(() => {
        this.#writing = undefined;
      });
  }

  /** Resolves when nothing is being written: all of it is, or the disk has not taken it. */
  async idle(): Promise<void> {
    await this.#writing;
  }

  /** One line after the other: what fails may have written a part of one. */
  async #write(): Promise<void> {
    for (let line = this.#unwritten[0]; line !== undefined; line = this.#unwritten[0]) {
      if (this.#lines >= 2 * KEPT) {
        await this.#cut();
        continue;
      }
      const text = this.#torn ? `\n${line}` : line;
      this.#torn = true;
      await appendFile(this.#file, text, { mode: 0o600 });
      this.#torn = false;
      this.#lines++;
      if (this.#unwritten[0] === line) this.#unwritten.shift();
    }
  }

  /** What counts is all that the file has then. */
  async #cut(): Promise<void> {
    const all = newest(this.#all);
    const due = this.#unwritten.length;
    await replaceFile(this.#file, all.map(lineOf).join(''));
    this.#lines = all.length;
    this.#torn = false;
    this.#unwritten.splice(0, due);
  }
}

/** The newest ones; of forecasts that wait for a move only the last of each guest and destination. */
function newest(all: readonly Remembered[]): readonly Remembered[] {
  const waiting = new Set<string>();
  const counts = (one: Remembered) => {
    if (!('kind' in one) || one.kind !== 'forecast') return true;
    const key = `${one.guest} ${one.peer}`;
    if (waiting.has(key)) return false;
    waiting.add(key);
    return true;
  };
  return all.toReversed().filter(counts).slice(0, KEPT).reverse();
}

function lineOf(experience: Remembered): string {
  return `${JSON.stringify(experience)}\n`;
}

/** A line that was torn by a crash, or is of another version, is left out. */
function parse(line: string): Remembered[] {
  try {
    const found: Remembered = JSON.parse(line);
    return isRemembered(found) ? [found] : [];
  } catch {
    return [];
  }
}

function isRemembered(found: Remembered): boolean {
  const texts = [found.guest, found.hypervisor, found.peer, found.time];
  if (!texts.every((text) => typeof text === 'string')) return false;
  if (!('kind' in found))
    return isObject(found.parts) && areNumbers(found.ms, found.sendMs, found.pages);
  if (found.kind === 'forecast')
    return isWay(found.way) && (found.forecast === undefined || isForetold(found.forecast));
  if (found.kind !== 'move' || !isWay(found.way) || !areNumbers(found.setupMs)) return false;
  if (found.pace !== undefined && !areNumbers(found.pace)) return false;
  return found.foretold.every(isForetold) && isSeen(found.seen);
}

function isForetold({ verdict, unlearned }: PastMove['foretold'][number]): boolean {
  return typeof verdict === 'string' && isObject(unlearned);
}

function isWay(way: PastMove['way']): boolean {
  return way === undefined || areNumbers(way.rate, way.spread, way.lanes, way.roundTripMs);
}

function isSeen(seen: PastMove['seen']): boolean {
  return seen === undefined || seen.workingSet.every((one) => areNumbers(one.windowMs, one.pages));
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null;
}

function areNumbers(...values: readonly unknown[]): boolean {
  return values.every((value) => typeof value === 'number');
}

function complain(error: unknown): void {
  log('warn', `what was learned of moves cannot be kept: ${(error as Error).message}`);
}
