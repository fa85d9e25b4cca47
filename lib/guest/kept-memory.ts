import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { makeDirectory } from '../directory.ts';
import { GodwitError } from '../errors.ts';
import { log } from '../log.ts';
import { PAGE_SIZE, type RegionFile } from '../memory/guest-layout.ts';
import { formatSize } from '../units.ts';
import { unusedBytes } from './file-users.ts';
import type { GuestDescription } from './guest.ts';
import { memoryFileName } from './orphans.ts';

/** How often it is looked whether a copy's time is over, or the host needs its memory, ms. */
const LOOK_MS = 2000;
/** Of the host's memory: with less to spare than this part, kept copies go. */
const SPARE_PART = 16;
/** Of what stat counts. */
const BLOCK_SIZE = 512;
/** The longest time that a copy may be kept, ms; a record that says more is of another clock. */
export const MAX_KEEP_MS = 24 * 3_600_000;

/** A region of a guest that has left, and the file with its pages. */
interface KeptRegion {
  readonly name: string;
  readonly pages: number;
  readonly file: string;
}

/** The record of a kept copy. */
interface KeptCopy {
  readonly guest: string;
  readonly hypervisor: string;
  /** Who has the guest, and so has had all that is in the pages; empty where nobody shows who he is. */
  readonly heir: string;
  /** By the clock on the wall, ms. */
  readonly until: number;
  readonly regions: readonly KeptRegion[];
}

/** A kept copy that a guest arrives in: nobody else removes it any more. */
export interface TakenMemory {
  /** The file of each region by its name: whoever makes it the guest's moves it away. */
  readonly files: ReadonlyMap<string, string>;
  /** Memory that it holds. */
  readonly bytes: number;
  /** Removes what was not moved away. */
  discard(): void;
}

export interface KeptMemoryPlaces {
  /** Records, one a guest: of both agents of the host. */
  readonly hostDir: string;
  /** Where the memory lies. */
  readonly ramDir: string;
}

/**
 * Memory of guests that have left this host, kept for their return. It is pages and no guest: the
 * process that it belonged to has ended, and nothing of the guest but its memory is there. What is in
 * it counts only by its hashes, so that whatever has become of it since does no harm.
 *
 * A file never stands without a record, except for a moment in which its maker is known by its name
 * (`memoryFileName`): whoever dies here leaves nothing that is not found.
 */
export class KeptMemory {
  readonly #dir: string;
  readonly #ramDir: string;
  readonly #available: () => number;
  #watch: NodeJS.Timeout | undefined;

  /** @param available memory of the host that is to be had, bytes */
  constructor({ hostDir, ramDir }: KeptMemoryPlaces, available = () => process.availableMemory()) {
    this.#dir = path.join(hostDir, 'kept');
    this.#ramDir = ramDir;
    this.#available = available;
  }

  /** From now on, until `stop`, copies go when their time is over, or when memory is short. */
  watch(): void {
    this.look();
    this.#watch = setInterval(() => this.look(), LOOK_MS).unref();
  }

  stop(): void {
    clearInterval(this.#watch);
  }

  /** Memory that the kept copies hold. */
  get bytes(): number {
    return this.#copies().reduce((sum, { regions }) => sum + bytesOf(regions), 0);
  }

  /**
   * Keeps the memory of a guest whose process has ended, in place of an older copy, for its return from
   * the heir. The files are moved away or removed. @throws GodwitError ram-file-failed: nothing is kept, and nothing is left
   */
  keep(
    guest: GuestDescription,
    memory: readonly RegionFile[],
    { heir, forMs }: { readonly heir: string; readonly forMs: number },
  ): void {
    const { name, hypervisor } = guest;
    const kept = memory.map(({ region, path: from }) => {
      const file = path.join(this.#ramDir, memoryFileName(name, 'kept'));
      return { from, region: { name: region.name, pages: region.pages, file } };
    });
    const regions = kept.map(({ region }) => region);
    const copy: KeptCopy = { guest: name, hypervisor, heir, until: Date.now() + forMs, regions };
    try {
      if (memory.length === 0) throw new Error('none of it is in a file that outlives its process');
      const older = this.#read(name);
      if (older) this.#drop(older);
      this.#write(copy);
      for (const { from, region } of kept) {
        requireWhole(from, region.pages * PAGE_SIZE);
        fs.chmodSync(from, 0o600);
        fs.renameSync(from, region.file);
      }
      if (this.#read(name) === undefined) throw new Error('its record is gone');
    } catch (cause) {
      for (const { from } of kept) remove(from);
      this.#drop(copy);
      const why = `the memory of guest ${name} is not kept: ${(cause as Error).message}`;
      throw new GodwitError('ram-file-failed', why, { cause });
    }
  }

  /**
   * What is kept of a guest that arrives, as far as it fits. Whatever does not is of no use any more
   * and goes: the guest is here again. Nobody but the heir gets any of it: a sender is told what the pages
   * are, and whoever else says that he has the guest may want to know just that.
   */
  take({ name, hypervisor, regions }: GuestDescription, from: string): TakenMemory | undefined {
    const copy = this.#read(name);
    if (copy === undefined) return undefined;
    const files = new Map<string, string>();
    const isMeant = !isOver(copy) && copy.hypervisor === hypervisor && copy.heir === from;
    for (const kept of isMeant ? copy.regions : []) {
      const fits = regions.some(
        (region) => region.name === kept.name && region.pages === kept.pages,
      );
      const file = path.join(this.#ramDir, memoryFileName(name, 'ram'));
      if (fits && moved(kept, file)) files.set(kept.name, file);
    }
    this.#drop(copy);
    if (files.size === 0) return undefined;
    const taken = [...files.values()];
    return {
      files,
      bytes: taken.reduce((sum, file) => sum + allocated(file), 0),
      discard: () => {
        for (const file of taken) remove(file);
      },
    };
  }

  /** Gives up as many copies as it takes until there is that much memory, and that much room for files. */
  makeRoom(bytes: number): void {
    const isShort = () => this.#spare < bytes || roomIn(this.#ramDir) < bytes;
    this.#giveUpWhile(isShort, `a guest that arrives needs ${formatSize(bytes)}`);
  }

  /** Removes copies whose time is over, and as many others as it takes when the host is short of memory. */
  look(): void {
    for (const copy of this.#copies()) {
      const { guest, regions } = copy;
      // With some of its files gone it is just being taken by the other agent.
      if (!isOver(copy) && regions.some(({ file }) => fs.existsSync(file))) continue;
      const held = bytesOf(regions) > 0;
      this.#drop(copy);
      if (held) log('info', 'the memory that was kept of it is removed: its time is over', guest);
    }
    this.#giveUpWhile(() => this.#spare < 0, 'the host is short of memory');
  }

  /** Available beyond what the host is to have left. */
  get #spare(): number {
    const limit = process.constrainedMemory() || Number.POSITIVE_INFINITY;
    return this.#available() - Math.min(os.totalmem(), limit) / SPARE_PART;
  }

  /** Those that would have to go soonest go first. */
  #giveUpWhile(isNeeded: () => boolean, why: string): void {
    const copies = this.#copies().toSorted((a, b) => a.until - b.until);
    for (const copy of copies) {
      if (!isNeeded()) return;
      const size = formatSize(bytesOf(copy.regions));
      this.#drop(copy);
      log('info', `${size} of memory that was kept of it is given up: ${why}`, copy.guest);
    }
  }

  /** The files go before and after the record: one may just be on its way to its place. */
  #drop({ guest, regions }: KeptCopy): void {
    const files = regions.map(({ file }) => file);
    for (const file of [...files, this.#recordOf(guest), ...files]) remove(file);
  }

  #copies(): KeptCopy[] {
    const guests = namesIn(this.#dir).map((name) => path.basename(name, '.json'));
    return guests.map((guest) => this.#read(guest)).filter((copy) => copy !== undefined);
  }

  /** A record that is damaged is none: it was written in one step, and says nothing of a guest. */
  #read(guest: string): KeptCopy | undefined {
    try {
      const copy: KeptCopy = JSON.parse(fs.readFileSync(this.#recordOf(guest), 'utf8'));
      return copy.guest === guest ? copy : undefined;
    } catch {
      return undefined;
    }
  }

  #write(copy: KeptCopy): void {
    makeDirectory(this.#dir);
    const record = this.#recordOf(copy.guest);
    fs.writeFileSync(`${record}.new`, `${JSON.stringify(copy)}\n`, { mode: 0o600 });
    fs.renameSync(`${record}.new`, record);
  }

  #recordOf(guest: string): string {
    return path.join(this.#dir, `${guest}.json`);
  }
}

function namesIn(dir: string): string[] {
  try {
    return fs.readdirSync(dir);
  } catch {
    return []; // nothing was ever kept
  }
}

/** What cannot be removed is looked at again the next time. */
function remove(file: string): void {
  try {
    fs.rmSync(file, { force: true });
  } catch {
    // as on a disk that takes nothing any more
  }
}

function isOver({ until }: KeptCopy): boolean {
  const left = until - Date.now();
  return left <= 0 || left > MAX_KEEP_MS;
}

/** Whole, and with nobody who could still write to it: then it is moved. */
function moved({ pages, file }: KeptRegion, to: string): boolean {
  try {
    if (unusedBytes(file) === undefined) return false;
    requireWhole(file, pages * PAGE_SIZE);
    fs.renameSync(file, to);
    return true;
  } catch {
    return false; // it is gone, or lies in another file system
  }
}

function requireWhole(file: string, bytes: number): void {
  const stats = fs.lstatSync(file);
  if (!stats.isFile() || stats.size !== bytes) throw new Error(`${file} does not have all of it`);
}

function bytesOf(regions: readonly KeptRegion[]): number {
  return regions.reduce((sum, { file }) => sum + allocated(file), 0);
}

function allocated(file: string): number {
  return (fs.lstatSync(file, { throwIfNoEntry: false })?.blocks ?? 0) * BLOCK_SIZE;
}

/** Where it cannot be told, whoever makes a file there hears why. */
function roomIn(dir: string): number {
  try {
    const { bavail, bsize } = fs.statfsSync(dir);
    return bavail * bsize;
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
