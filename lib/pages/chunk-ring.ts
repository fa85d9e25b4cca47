import { CHUNK_PAGES, CHUNK_SIZE, PAGE_SIZE } from '../memory/guest-layout.ts';

/** Chunks that may wait for a channel's worker. */
const SLOTS = 4;
/** Int32 words before the slots: chunks published, chunks taken. */
const PUBLISHED = 0;
const TAKEN = 1;
const HEAD_WORDS = 2;
/** Int32 words of a slot before its bytes: chunk, round, then a bit for each page: there, and zero. */
const CHUNK = 0;
const ROUND = 1;
const PRESENT = 2;
const BITMAP_WORDS = CHUNK_PAGES / 32;
const ZERO = PRESENT + BITMAP_WORDS;
const SLOT_WORDS = ZERO + BITMAP_WORDS;
const BYTES_AT = 4096;
const WORDS_SIZE = (HEAD_WORDS + SLOTS * SLOT_WORDS) * 4;

/** Bytes of shared memory for a ring. */
export const RING_SIZE = BYTES_AT + SLOTS * CHUNK_SIZE;
if (WORDS_SIZE > BYTES_AT) throw new Error('the words of a ring overlap its bytes');

/**
 * Chunks on their way from the thread that takes pages out of a hypervisor's stream to the worker of
 * a channel: one writer, one reader, memory for a fixed number of chunks. Full means that the writer
 * stands still, and with it the hypervisor.
 */
abstract class RingEnd {
  protected readonly words: Int32Array;
  readonly #bytes: Buffer;

  constructor(buffer: SharedArrayBuffer) {
    this.words = new Int32Array(buffer, 0, WORDS_SIZE / 4);
    this.#bytes = Buffer.from(buffer, BYTES_AT);
  }

  /** Where the words of the n-th chunk since the beginning stand. */
  protected wordsOf(n: number): number {
    return HEAD_WORDS + (n % SLOTS) * SLOT_WORDS;
  }

  protected bytesOf(n: number): Buffer {
    const at = (n % SLOTS) * CHUNK_SIZE;
    return this.#bytes.subarray(at, at + CHUNK_SIZE);
  }
}

/** The writer's end: one chunk is open at a time. */
export class ChunkRingWriter extends RingEnd {
  #published = 0;
  #at = -1;
  #bytes: Buffer | undefined;

  /** Opens a chunk without pages; blocks the thread until there is room. */
  open(chunk: number): void {
    for (;;) {
      const taken = Atomics.load(this.words, TAKEN);
      if (this.#published - taken < SLOTS) break;
      Atomics.wait(this.words, TAKEN, taken);
    }
    this.#at = this.wordsOf(this.#published);
    this.#bytes = this.bytesOf(this.#published);
    this.words[this.#at + CHUNK] = chunk;
    this.words.fill(0, this.#at + PRESENT, this.#at + SLOT_WORDS);
  }

  /** Puts a page into the open chunk; undefined is a zero page. A later one wins. */
  put(offset: number, page: Buffer | undefined): void {
    const word = offset >>> 5;
    const bit = 1 << (offset & 31);
    this.words[this.#at + PRESENT + word]! |= bit;
    if (page === undefined) {
      this.words[this.#at + ZERO + word]! |= bit;
    } else {
      this.words[this.#at + ZERO + word]! &= ~bit;
      page.copy(this.#bytes!, offset * PAGE_SIZE);
    }
  }

  /** Gives the open chunk to the reader, as part of that round. */
  publish(round: number): void {
    this.words[this.#at + ROUND] = round;
    Atomics.store(this.words, PUBLISHED, ++this.#published);
    Atomics.notify(this.words, PUBLISHED);
  }

  /** Chunks given to the reader so far. */
  get published(): number {
    return this.#published;
  }
}

export interface RingChunk {
  readonly chunk: number;
  readonly round: number;
  /** Offsets of its pages, rising. */
  readonly offsets: number[];
}

/** The reader's end. */
export class ChunkRingReader extends RingEnd {
  #taken = 0;

  /** The next chunk, its pages copied to their places in `into`; waits for it without blocking. */
  async take(into: Buffer): Promise<RingChunk> {
    while (Atomics.load(this.words, PUBLISHED) === this.#taken) {
      const waiting = Atomics.waitAsync(this.words, PUBLISHED, this.#taken);
      if (waiting.async) await waiting.value;
    }
    const at = this.wordsOf(this.#taken);
    const chunk = this.words[at + CHUNK]!;
    const round = this.words[at + ROUND]!;
    const offsets = this.#copyPages(at, this.bytesOf(this.#taken), into);
    Atomics.store(this.words, TAKEN, ++this.#taken);
    Atomics.notify(this.words, TAKEN);
    return { chunk, round, offsets };
  }

  #copyPages(at: number, from: Buffer, into: Buffer): number[] {
    const offsets: number[] = [];
    let start = 0;
    const copyTo = (end: number) => {
      if (end > start) from.copy(into, start * PAGE_SIZE, start * PAGE_SIZE, end * PAGE_SIZE);
    };
    for (let offset = 0; offset < CHUNK_PAGES; offset++) {
      const word = offset >>> 5;
      const bit = 1 << (offset & 31);
      const present = (this.words[at + PRESENT + word]! & bit) !== 0;
      const zero = (this.words[at + ZERO + word]! & bit) !== 0;
      if (present) offsets.push(offset);
      if (present && !zero) continue;
      copyTo(offset);
      start = offset + 1;
      if (zero) into.fill(0, offset * PAGE_SIZE, start * PAGE_SIZE);
    }
    copyTo(CHUNK_PAGES);
    return offsets;
  }
}
