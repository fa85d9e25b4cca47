import { GodwitError } from '../errors.ts';
import {
  CHUNK_PAGES,
  CHUNK_SIZE,
  type GuestLayout,
  laneOfChunk,
  PAGE_SIZE,
} from '../memory/guest-layout.ts';
import type { GuestMemory } from '../memory/guest-memory.ts';
import { hashableMemory, type PageHash } from './hash.ts';
import type { HashTable } from './hash-table.ts';
import { KEYED_BYTES, type KeyedHash } from './keyed-hashes.ts';

/** An entry of KeptHashes (proto/WIRE.md, Kept memory): xxh64, then the keyed hash. */
const XXH64_BYTES = 8;
const ENTRY_BYTES = XXH64_BYTES + KEYED_BYTES;
/** Longest wait for the next hashes, ms: a chunk takes a worker some milliseconds. */
const NEWS_LIMIT_MS = 2000;
/** Shared by all lanes of a thread, since a chunk is hashed in one go. */
const CHUNK = hashableMemory(CHUNK_SIZE);
const HASHES = new BigUint64Array(CHUNK_PAGES);
const ZERO_PAGE = Buffer.alloc(PAGE_SIZE);

/** One page of a kept copy. */
export interface KeptPage {
  readonly pfn: number;
  readonly hash: bigint;
  readonly keyed: Uint8Array;
}

/** What a lane's receiver hashes. */
export interface KeptCopy {
  readonly layout: GuestLayout;
  readonly lane: number;
  readonly lanes: number;
  /** The names of the regions in which kept pages stand. */
  readonly regions: ReadonlySet<string>;
  readonly memory: GuestMemory;
  readonly hash: PageHash;
  readonly key: KeyedHash;
  /** Gets the xxh64 of each page of which nothing has arrived. */
  readonly table: HashTable;
}

/** The chunks of the lane that have kept pages. */
export function* keptChunks({ layout, lane, lanes, regions }: KeptCopy): Generator<number> {
  for (let chunk = lane; chunk < layout.chunks; chunk += lanes) {
    const region = layout.regionOfChunk(chunk);
    if (region !== undefined && regions.has(region.name)) yield chunk;
  }
}

/**
 * The entries of a chunk, as memory has it now; undefined when there is none. Pages of zeros have no
 * entry, and those that have arrived in the migration have none any more.
 */
export function hashKept(copy: KeptCopy, chunk: number): Buffer | undefined {
  const { layout, memory, table, hash, key } = copy;
  const firstPfn = chunk * CHUNK_PAGES;
  const pages = pagesOf(layout, chunk);
  memory.read(firstPfn, pages, CHUNK, 0);
  let entries: Buffer | undefined;
  for (let i = 0; i < pages; i++) {
    const at = i * PAGE_SIZE;
    if (table.get(firstPfn + i) !== 0n) continue;
    if (CHUNK.compare(ZERO_PAGE, 0, PAGE_SIZE, at, at + PAGE_SIZE) === 0) continue;
    hash.pageInto(HASHES, i, CHUNK, at);
    table.setRun(firstPfn + i, 1, HASHES, i);
    entries ??= Buffer.alloc(pages * ENTRY_BYTES);
    entries.writeBigUInt64LE(HASHES[i]!, i * ENTRY_BYTES);
    entries.set(key.of(CHUNK.subarray(at, at + PAGE_SIZE)), i * ENTRY_BYTES + XXH64_BYTES);
  }
  return entries;
}

/** The hashes of a lane's kept pages as they come to its sender, in the order of chunks. */
export class KeptHashes {
  readonly #layout: GuestLayout;
  readonly #lane: number;
  readonly #lanes: number;
  /** Chunks below it have been told of, as far as they will be. */
  #next = 0;
  /** Nothing is waited for any more; what comes all the same is taken. */
  #over = false;
  #news: PromiseWithResolvers<void> | undefined;

  constructor(layout: GuestLayout, lane: number, lanes: number) {
    this.#layout = layout;
    this.#lane = lane;
    this.#lanes = lanes;
  }

  /**
   * The pages that a payload of KeptHashes tells of; none when it is the last.
   * @throws GodwitError bad-message
   */
  take(chunk: number, payload: Buffer): readonly KeptPage[] {
    if (payload.length === 0) {
      this.end();
      return [];
    }
    const isOurs = chunk < this.#layout.chunks && laneOfChunk(chunk, this.#lanes) === this.#lane;
    const pages = isOurs ? pagesOf(this.#layout, chunk) : 0;
    if (pages === 0 || chunk < this.#next || payload.length !== pages * ENTRY_BYTES)
      throw new GodwitError(
        'bad-message',
        `KeptHashes of chunk ${chunk} with ${payload.length} bytes has no place on lane ${this.#lane}`,
      );
    this.#next = chunk + 1;
    this.#wake();
    const found: KeptPage[] = [];
    for (let i = 0; i < pages; i++) {
      const at = i * ENTRY_BYTES;
      const keyed = payload.subarray(at + XXH64_BYTES, at + ENTRY_BYTES);
      if (keyed[0] === 0) continue;
      found.push({ pfn: chunk * CHUNK_PAGES + i, hash: payload.readBigUInt64LE(at), keyed });
    }
    return found;
  }

  /**
   * Resolves when nothing more is to be expected of the chunk. A receiver that has told nothing new for
   * a while is not waited for any more: pages go as if it had kept none.
   */
  async known(chunk: number): Promise<void> {
    while (!this.#over && chunk >= this.#next) {
      this.#news ??= Promise.withResolvers();
      const silent = setTimeout(() => this.end(), NEWS_LIMIT_MS);
      await this.#news.promise;
      clearTimeout(silent);
    }
  }

  /** Nobody waits any more. */
  end(): void {
    this.#over = true;
    this.#wake();
  }

  #wake(): void {
    this.#news?.resolve();
    this.#news = undefined;
  }
}

function pagesOf(layout: GuestLayout, chunk: number): number {
  const region = layout.regionOfChunk(chunk);
  if (region === undefined) return 0;
  return Math.min(CHUNK_PAGES, region.firstPfn + region.pages - chunk * CHUNK_PAGES);
}
