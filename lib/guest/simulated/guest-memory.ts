import assert from 'node:assert/strict';
import { readSync, writeSync } from 'node:fs';
import { CHUNK_PAGES, CHUNK_SIZE, PAGE_SIZE } from '../../memory/guest-layout.ts';
import {
  CheckEntry,
  CheckSums,
  type CheckTable,
  ENTRIES_PER_PAGE,
  ENTRY_BYTES,
  type PageCheck,
} from './check-table.ts';
import { type ContentGenerator, changeInPlace } from './content.ts';
import type { DirtyLog } from './dirty-log.ts';
import type { Random } from './random.ts';
import type { Slice } from './workload.ts';

/** Bad pages that a check names one by one. */
const BAD_PFNS_NAMED = 16;

/** What a check of a slice found. */
export interface SliceCheck {
  readonly pages: number;
  readonly bad: number;
  /** The first of the bad pages. */
  readonly badPfns: readonly number[];
  /** The entries add up to what was written, so no entry was lost together with its page. */
  readonly tableConsistent: boolean;
}

/** Guest memory as one vCPU sees it: the RAM file, its own slice of it, and the checks over that. */
export class GuestMemory {
  readonly sums = new CheckSums();
  readonly #fd: number;
  readonly #slice: Slice;
  readonly #table: CheckTable;
  readonly #check: PageCheck;
  readonly #log: DirtyLog;
  readonly #entry = new CheckEntry();
  readonly #page = Buffer.alloc(PAGE_SIZE);
  readonly #zeroPage = Buffer.alloc(PAGE_SIZE);

  constructor(fd: number, slice: Slice, table: CheckTable, check: PageCheck, log: DirtyLog) {
    this.#fd = fd;
    this.#slice = slice;
    this.#table = table;
    this.#check = check;
    this.#log = log;
  }

  /** Changes a page in a few places. */
  change(pfn: number, random: Random): void {
    readAt(this.#fd, this.#page, pfn * PAGE_SIZE);
    changeInPlace(this.#page, random);
    this.#write(pfn, this.#readEntry(pfn) + 1);
  }

  /** Replaces the content of a page. */
  rewrite(pfn: number, content: ContentGenerator): void {
    const generation = this.#readEntry(pfn) + 1;
    content.rewrite(this.#page, 0, pfn, generation);
    this.#write(pfn, generation);
  }

  /** Writes the slice's boot content; zero pages and their entries stay holes in the file. */
  boot(content: ContentGenerator): void {
    const chunk = Buffer.alloc(CHUNK_SIZE);
    const entries = Buffer.alloc(CHUNK_PAGES * ENTRY_BYTES);
    const end = this.#slice.first + this.#slice.pages;
    for (let first = this.#slice.first; first < end; first += CHUNK_PAGES)
      this.#bootChunk(first, Math.min(CHUNK_PAGES, end - first), content, chunk, entries);
  }

  /** Compares every page of the slice with its entry. The guest must not write meanwhile. */
  check(): SliceCheck {
    const chunk = Buffer.alloc(CHUNK_SIZE);
    const entries = Buffer.alloc(CHUNK_PAGES * ENTRY_BYTES);
    const sums = new CheckSums();
    const badPfns: number[] = [];
    let bad = 0;
    const end = this.#slice.first + this.#slice.pages;
    for (let first = this.#slice.first; first < end; first += CHUNK_PAGES) {
      const pages = Math.min(CHUNK_PAGES, end - first);
      readAt(this.#fd, chunk.subarray(0, pages * PAGE_SIZE), first * PAGE_SIZE);
      readAt(this.#fd, entries.subarray(0, pages * ENTRY_BYTES), this.#table.offsetOf(first));
      for (let i = 0; i < pages; i++) {
        this.#entry.bytes.set(entries.subarray(i * ENTRY_BYTES, (i + 1) * ENTRY_BYTES));
        sums.add(this.#entry);
        if (this.#matches(chunk.subarray(i * PAGE_SIZE, (i + 1) * PAGE_SIZE), first + i)) continue;
        bad++;
        if (badPfns.length < BAD_PFNS_NAMED) badPfns.push(first + i);
      }
    }
    const tableConsistent = sums.state.join() === this.sums.state.join();
    return { pages: this.#slice.pages, bad, badPfns, tableConsistent };
  }

  /** Reads a page's entry, takes it out of the sums and returns its generation. */
  #readEntry(pfn: number): number {
    readAt(this.#fd, this.#entry.bytes, this.#table.offsetOf(pfn));
    this.sums.remove(this.#entry);
    return this.#entry.generation;
  }

  #write(pfn: number, generation: number): void {
    this.#entry.set(this.#check(this.#page, pfn, generation), generation, pfn);
    this.sums.add(this.#entry);
    writeAt(this.#fd, this.#page, pfn * PAGE_SIZE);
    this.#log.mark(pfn);
    writeAt(this.#fd, this.#entry.bytes, this.#table.offsetOf(pfn));
    this.#log.mark(this.#table.tablePfnOf(pfn));
  }

  #bootChunk(
    first: number,
    pages: number,
    content: ContentGenerator,
    chunk: Buffer,
    entries: Buffer,
  ): void {
    entries.fill(0);
    let runStart = 0;
    for (let i = 0; i <= pages; i++) {
      if (i < pages && content.fillAtBoot(chunk, i * PAGE_SIZE, first + i)) {
        const page = chunk.subarray(i * PAGE_SIZE, (i + 1) * PAGE_SIZE);
        this.#entry.set(this.#check(page, first + i, 1), 1, first + i);
        this.sums.add(this.#entry);
        entries.set(this.#entry.bytes, i * ENTRY_BYTES);
        continue;
      }
      const run = chunk.subarray(runStart * PAGE_SIZE, i * PAGE_SIZE);
      if (run.length > 0) writeAt(this.#fd, run, (first + runStart) * PAGE_SIZE);
      runStart = i + 1;
    }
    if (entries.equals(this.#zeroPage)) return;
    writeAt(this.#fd, entries.subarray(0, pages * ENTRY_BYTES), this.#table.offsetOf(first));
  }

  #matches(page: Buffer, pfn: number): boolean {
    const { generation, check } = this.#entry;
    if (generation === 0)
      return check === 0n && this.#entry.pfn === 0 && page.equals(this.#zeroPage);
    return this.#entry.pfn === pfn && check === this.#check(page, pfn, generation);
  }
}

// Slices begin at chunks; then no page of the table has two writers either.
assert.equal(ENTRIES_PER_PAGE, CHUNK_PAGES, 'a table page covers one chunk');

function readAt(fd: number, bytes: Uint8Array, position: number): void {
  const count = readSync(fd, bytes, 0, bytes.length, position);
  if (count !== bytes.length) throw new Error(`read ${count} of ${bytes.length} at ${position}`);
}

/** tmpfs may write less than asked when it is nearly full; the rest then fails with the reason. */
function writeAt(fd: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length; )
    done += writeSync(fd, bytes, done, bytes.length - done, position + done);
}
