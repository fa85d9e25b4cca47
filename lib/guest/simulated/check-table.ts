import xxhash from 'xxhash-wasm';
import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import { mix32 } from './random.ts';

/** Bytes of a page's entry: u64 check, u32 generation, u32 pfn, little endian. */
export const ENTRY_BYTES = 16;
/** Entries in a page of the table. */
export const ENTRIES_PER_PAGE = PAGE_SIZE / ENTRY_BYTES;

/**
 * Where the check table stands: in the last pages of guest memory, so that it migrates as any other
 * memory does. Entry n belongs to page n; an entry of zeros says that the page is zero and was
 * never written. The table's own pages have no entries: the sums of `CheckSums` cover them.
 */
export class CheckTable {
  /** Pages before the table: the ones that are checked. */
  readonly dataPages: number;

  constructor(pages: number) {
    this.dataPages = pages - Math.ceil(pages / (ENTRIES_PER_PAGE + 1));
  }

  /** Byte offset of a page's entry in guest memory. */
  offsetOf(pfn: number): number {
    return this.dataPages * PAGE_SIZE + pfn * ENTRY_BYTES;
  }

  /** The page of the table that holds a page's entry. */
  tablePfnOf(pfn: number): number {
    return this.dataPages + Math.floor(pfn / ENTRIES_PER_PAGE);
  }
}

/** One entry, over bytes that the caller fills or writes out. */
export class CheckEntry {
  readonly bytes = new Uint8Array(ENTRY_BYTES);
  readonly #words = new Uint32Array(this.bytes.buffer);
  readonly #check = new BigUint64Array(this.bytes.buffer, 0, 1);

  get generation(): number {
    return this.#words[2]!;
  }

  get pfn(): number {
    return this.#words[3]!;
  }

  get check(): bigint {
    return this.#check[0]!;
  }

  get words(): Uint32Array {
    return this.#words;
  }

  set(check: bigint, generation: number, pfn: number): void {
    this.#check[0] = check;
    this.#words[2] = generation;
    this.#words[3] = pfn;
  }
}

/**
 * A sum over all entries, kept by the vCPUs outside guest memory and moved as device state. It is
 * what finds a write of which both the page and its entry were lost. Two sums of 32 bits, because
 * a 64-bit one would cost a BigInt for each write.
 */
export class CheckSums {
  #low = 0;
  #high = 0;

  add(entry: CheckEntry): void {
    this.#low = (this.#low + lowOf(entry)) | 0;
    this.#high = (this.#high + highOf(entry)) | 0;
  }

  remove(entry: CheckEntry): void {
    this.#low = (this.#low - lowOf(entry)) | 0;
    this.#high = (this.#high - highOf(entry)) | 0;
  }

  get state(): readonly [number, number] {
    return [this.#low, this.#high];
  }

  set state([low, high]: readonly [number, number]) {
    this.#low = low;
    this.#high = high;
  }
}

/** Computes the check value of a page: its xxh64, seeded by pfn and generation. */
export type PageCheck = (page: Uint8Array, pfn: number, generation: number) => bigint;

/** The hash is a WebAssembly module of the calling thread. */
export async function createPageCheck(): Promise<PageCheck> {
  const { h64Raw } = await xxhash();
  const seedWords = new Uint32Array(2);
  const seed = new BigUint64Array(seedWords.buffer);
  return (page, pfn, generation) => {
    seedWords[0] = pfn;
    seedWords[1] = generation;
    return h64Raw(page, seed[0]!);
  };
}

/** An entry of zeros adds nothing, so untouched memory need not be looked at. */
function lowOf({ words }: CheckEntry): number {
  if (words[2] === 0) return 0;
  return mix32(words[0]! ^ mix32(words[2]! ^ mix32(words[3]! + 1)));
}

function highOf({ words }: CheckEntry): number {
  if (words[2] === 0) return 0;
  return mix32(words[1]! ^ mix32(words[3]! ^ mix32(words[2]! + 0x5bd1e995)));
}
