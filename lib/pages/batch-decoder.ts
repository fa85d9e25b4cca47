import zlib from 'node:zlib';
import { GodwitError } from '../errors.ts';
import {
  CHUNK_PAGES,
  CHUNK_SIZE,
  type GuestLayout,
  laneOfChunk,
  PAGE_SIZE,
} from '../memory/guest-layout.ts';
import type { GuestMemory } from '../memory/guest-memory.ts';
import type { PageBatch } from '../wire/messages.ts';
import { ENCODING } from './encoding.ts';
import { hashableMemory, type PageHash } from './hash.ts';
import type { HashTable } from './hash-table.ts';
import type { RoundTags } from './round-tags.ts';

const ZERO_CHUNK = Buffer.alloc(CHUNK_SIZE);
/**
 * Pages that had to be built (delta, copy) or looked at (zero), each at its place in the chunk. All
 * lanes of a thread share it, since a batch is decoded in one go.
 */
const BUILT = hashableMemory(CHUNK_SIZE);

/** What the decoder works on. */
export interface DecoderContext {
  readonly layout: GuestLayout;
  readonly lane: number;
  readonly lanes: number;
  readonly memory: GuestMemory;
  readonly hash: PageHash;
  readonly table: HashTable;
  /** Where each page that was verified and written is noted. */
  readonly arrived: RoundTags;
}

/**
 * Rebuilds the pages of a batch, verifies the hash of each after reconstruction and only then
 * writes them. One per lane. A batch that breaks a rule throws a GodwitError and writes nothing.
 */
export class BatchDecoder {
  readonly #context: DecoderContext;
  readonly #zeroHash: bigint;
  readonly #delta = new Uint8Array(PAGE_SIZE);
  readonly #deltaWords = new Uint32Array(this.#delta.buffer);
  /** Where each page of the batch stands before it is written; undefined: nothing to write. */
  readonly #source: (Buffer | undefined)[] = new Array(CHUNK_PAGES);
  /** Of each page of the batch, what it really hashes to. */
  readonly #actual = new BigUint64Array(CHUNK_PAGES);
  readonly #sourceAt = new Uint32Array(CHUNK_PAGES);

  constructor(context: DecoderContext) {
    this.#context = context;
    this.#zeroHash = context.hash.of(ZERO_CHUNK.subarray(0, PAGE_SIZE));
  }

  /** Verifies and writes the batch; returns the number of pages. */
  decode(batch: PageBatch, payload: Buffer): number {
    const offsets = this.#offsets(batch);
    const { raw, delta } = this.#sections(batch, payload);
    const hashes = hashesOf(batch.hashes, offsets.length);
    this.#rebuild(batch, offsets, hashes, raw, delta);
    this.#write(batch, offsets, hashes);
    return offsets.length;
  }

  /** Page offsets in the chunk, each of them a page of this lane and of this guest. */
  #offsets(batch: PageBatch): number[] {
    const { layout, lane, lanes } = this.#context;
    const region = layout.regionOfChunk(batch.chunk);
    if (!region || laneOfChunk(batch.chunk, lanes) !== lane)
      throw new GodwitError(
        'pfn-out-of-range',
        `page batch for chunk ${batch.chunk}, which is not one of lane ${lane}`,
      );
    const count = batch.offsetDelta.length;
    if (count === 0 || count !== batch.encodings.length || count * 8 !== batch.hashes.length)
      throw badBatch(batch, `${count} pages, ${batch.encodings.length} encodings`);
    const end = region.firstPfn + region.pages - batch.chunk * CHUNK_PAGES;
    let offset = 0;
    return batch.offsetDelta.map((delta, i) => {
      if (i > 0 && delta === 0) throw badBatch(batch, 'pages not in rising order');
      offset += delta;
      if (offset >= Math.min(end, CHUNK_PAGES))
        throw new GodwitError(
          'pfn-out-of-range',
          `page batch has pfn ${batch.chunk * CHUNK_PAGES + offset}, which the guest does not have`,
        );
      return offset;
    });
  }

  /** The raw and delta sections at their full size, which the page count fixes. */
  #sections(batch: PageBatch, payload: Buffer): { raw: Buffer; delta: Buffer } {
    let rawPages = 0;
    let deltaPages = 0;
    let copies = 0;
    for (const encoding of batch.encodings) {
      if (encoding === ENCODING.raw) rawPages++;
      else if (encoding === ENCODING.delta) deltaPages++;
      else if (encoding === ENCODING.copy) copies++;
      else if (encoding > ENCODING.copy) throw badBatch(batch, `unknown encoding ${encoding}`);
    }
    if (copies !== batch.copyOf.length)
      throw badBatch(batch, `${copies} copies but ${batch.copyOf.length} sources`);
    if (batch.rawLength + batch.deltaLength !== payload.length)
      throw badBatch(batch, `payload of ${payload.length} bytes does not match its sections`);
    const rawSection = payload.subarray(0, batch.rawLength);
    const deltaSection = payload.subarray(batch.rawLength);
    return {
      raw: batch.rawCompressed ? decompress(rawSection, rawPages) : exact(rawSection, rawPages),
      delta: deltaPages === 0 ? exact(deltaSection, 0) : decompress(deltaSection, deltaPages),
    };
  }

  /** Points #source at verified content for every page. */
  #rebuild(
    batch: PageBatch,
    offsets: readonly number[],
    hashes: BigUint64Array,
    raw: Buffer,
    delta: Buffer,
  ): void {
    const { hash, table } = this.#context;
    let rawAt = 0;
    let deltaAt = 0;
    let copies = 0;
    this.#source.fill(undefined);
    this.#readZeroPages(batch, offsets);
    for (let i = 0; i < offsets.length; i++) {
      const offset = offsets[i]!;
      const pfn = batch.chunk * CHUNK_PAGES + offset;
      switch (batch.encodings[i]) {
        case ENCODING.zero:
          this.#actual[i] = this.#zeroHash;
          if (!this.#isZero(offset)) this.#place(offset, ZERO_CHUNK, offset * PAGE_SIZE);
          break;
        case ENCODING.same:
          this.#actual[i] = table.get(pfn);
          break;
        case ENCODING.raw:
          hash.pageInto(this.#actual, i, raw, rawAt);
          this.#place(offset, raw, rawAt);
          rawAt += PAGE_SIZE;
          break;
        case ENCODING.delta:
          this.#buildDelta(pfn, offset, delta.subarray(deltaAt, deltaAt + PAGE_SIZE));
          deltaAt += PAGE_SIZE;
          hash.pageInto(this.#actual, i, BUILT, offset * PAGE_SIZE);
          break;
        default:
          this.#buildCopy(batch.chunk, offset, batch.copyOf[copies++]!);
          hash.pageInto(this.#actual, i, BUILT, offset * PAGE_SIZE);
      }
      if (this.#actual[i] !== hashes[i]) throw mismatch(pfn, batch, this.#actual[i]!, hashes[i]!);
    }
  }

  /**
   * Reads what memory holds where zeros are to be, so that they are written where they are not yet,
   * and nowhere else: a page never touched stays a hole in its file. Memory is looked at, since
   * nothing else knows: the file need not be fresh, and what hashes like zeros need not be zeros.
   */
  #readZeroPages({ chunk, encodings }: PageBatch, offsets: readonly number[]): void {
    for (let i = 0; i < offsets.length; i++) {
      if (encodings[i] !== ENCODING.zero) continue;
      const first = offsets[i]!;
      let run = 1;
      while (encodings[i + run] === ENCODING.zero && offsets[i + run] === first + run) run++;
      const pfn = chunk * CHUNK_PAGES + first;
      this.#context.memory.read(pfn, run, BUILT, first * PAGE_SIZE);
      i += run - 1;
    }
  }

  /** True when the page was read as zeros. */
  #isZero(offset: number): boolean {
    const at = offset * PAGE_SIZE;
    return BUILT.compare(ZERO_CHUNK, 0, PAGE_SIZE, at, at + PAGE_SIZE) === 0;
  }

  #buildDelta(pfn: number, offset: number, delta: Buffer): void {
    const at = offset * PAGE_SIZE;
    this.#context.memory.read(pfn, 1, BUILT, at);
    this.#delta.set(delta);
    const words = new Uint32Array(BUILT.buffer, BUILT.byteOffset + at, PAGE_SIZE / 4);
    for (let i = 0; i < words.length; i++) words[i]! ^= this.#deltaWords[i]!;
    this.#place(offset, BUILT, at);
  }

  /** The source of a copy is a page before it in this batch, or else what memory holds now. */
  #buildCopy(chunk: number, offset: number, from: number): void {
    const { layout, lane, lanes, memory } = this.#context;
    const fromChunk = Math.floor(from / CHUNK_PAGES);
    if (!layout.has(from) || laneOfChunk(fromChunk, lanes) !== lane)
      throw new GodwitError('pfn-out-of-range', `copy of pfn ${from}, not one of this lane`);
    const at = offset * PAGE_SIZE;
    const earlier = from % CHUNK_PAGES;
    // Filled in rising order and empty for pages that memory has already.
    const source = fromChunk === chunk ? this.#source[earlier] : undefined;
    const sourceAt = this.#sourceAt[earlier]!;
    if (source) source.copy(BUILT, at, sourceAt, sourceAt + PAGE_SIZE);
    else memory.read(from, 1, BUILT, at);
    this.#place(offset, BUILT, at);
  }

  #place(offset: number, source: Buffer, at: number): void {
    this.#source[offset] = source;
    this.#sourceAt[offset] = at;
  }

  /** Writes neighbouring pages that stand together in their source with one call. */
  #write(batch: PageBatch, offsets: readonly number[], hashes: BigUint64Array): void {
    const { memory, table, arrived } = this.#context;
    const firstPfn = batch.chunk * CHUNK_PAGES;
    for (let i = 0; i < offsets.length; ) {
      const first = offsets[i]!;
      const source = this.#source[first];
      let run = 1;
      while (
        i + run < offsets.length &&
        offsets[i + run] === first + run &&
        this.#source[first + run] === source &&
        (source === undefined ||
          this.#sourceAt[first + run] === this.#sourceAt[first]! + run * PAGE_SIZE)
      )
        run++;
      if (source) memory.write(firstPfn + first, run, source, this.#sourceAt[first]!);
      table.setRun(firstPfn + first, run, hashes, i);
      arrived.mark(firstPfn + first, run, batch.round);
      i += run;
    }
  }
}

function exact(section: Buffer, pages: number): Buffer {
  if (section.length !== pages * PAGE_SIZE)
    throw new GodwitError(
      'bad-message',
      `page batch section has ${section.length} bytes for ${pages} pages`,
    );
  return section;
}

/** Stops a decompression bomb at the size that the page count allows. */
function decompress(section: Buffer, pages: number): Buffer {
  const length = pages * PAGE_SIZE;
  try {
    const out = zlib.zstdDecompressSync(section, {
      maxOutputLength: Math.max(1, length),
      // One output buffer of the right size: a third faster than pieces of 16 KiB.
      chunkSize: Math.max(64, length),
    });
    if (out.length === length) return out;
    throw new Error(`${out.length} bytes came out, ${length} were announced`);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new GodwitError('decompress-failed', `page batch does not decompress: ${why}`, { cause });
  }
}

function hashesOf(bytes: Uint8Array, count: number): BigUint64Array {
  const hashes = new BigUint64Array(count);
  new Uint8Array(hashes.buffer).set(bytes);
  return hashes;
}

function mismatch(
  pfn: number,
  { round }: PageBatch,
  actual: bigint,
  expected: bigint,
): GodwitError {
  return new GodwitError(
    'page-hash-mismatch',
    `page ${pfn} of round ${round} is not what the sender had: hash ${actual.toString(16)}, expected ${expected.toString(16)}`,
  );
}

function badBatch(batch: PageBatch, why: string): GodwitError {
  return new GodwitError('bad-message', `page batch of chunk ${batch.chunk}: ${why}`);
}
