import { GodwitError } from '../errors.ts';
import { CHUNK_PAGES, CHUNK_SIZE, PAGE_SIZE } from '../memory/guest-layout.ts';
import { PageHash } from './hash.ts';

/** Int32 words before the slots: chunks published, chunks freed, both halves of the hashes' seed, a number. */
const PUBLISHED = 0;
const FREED = 1;
const SEED = 2;
const NUMBER = 4;
const HEAD_WORDS = 5;
/** Int32 words of a slot before its bytes: chunk, round, then a bit for each page: there, and zero. */
const CHUNK = 0;
const ROUND = 1;
const PRESENT = 2;
const BITMAP_WORDS = CHUNK_PAGES / 32;
const ZERO = PRESENT + BITMAP_WORDS;
const SLOT_WORDS = ZERO + BITMAP_WORDS;
const WORDS_BYTES = 4096;
/** Of a slot: xxh64 of each page that is there and not zero. */
const HASHES_BYTES = CHUNK_PAGES * 8;

let lastNumber = 0;
/** Who waits in this thread, by number and word of a ring with both its ends in one. */
const waiting = new Map<string, (() => void)[]>();

/**
 * Shared memory for a ring of so many chunks, whose pages are hashed with that seed.
 * @param inOneThread both ends will be: they then wake one another by a call, where a wake-up from thread to
 *   thread takes a tenth of a millisecond for each chunk
 */
export function newRing(slots: number, hashSeed: bigint, inOneThread = false): SharedArrayBuffer {
  if ((HEAD_WORDS + slots * SLOT_WORDS) * 4 > WORDS_BYTES)
    throw new Error('the words of a ring overlap its hashes');
  const ring = new SharedArrayBuffer(WORDS_BYTES + slots * (HASHES_BYTES + CHUNK_SIZE));
  new BigUint64Array(ring)[SEED / 2] = hashSeed;
  if (inOneThread) new Int32Array(ring)[NUMBER] = ++lastNumber;
  return ring;
}

/**
 * Chunks on their way from whoever takes pages out of a hypervisor's stream to a lane, and on until
 * their batch is acknowledged: the slots of the ring are the lane's window. One writer, one reader,
 * each in a thread of its own or both in one: neither blocks. Full means that the writer reads no
 * more, and so that the hypervisor waits.
 */
abstract class RingEnd {
  protected readonly words: Int32Array;
  protected isOver = false;
  readonly slots: number;
  readonly #hashes: readonly BigUint64Array[];
  readonly #bytes: readonly Buffer[];
  /** The word that this end waits for. */
  readonly #awaited: number;

  constructor(buffer: SharedArrayBuffer, awaited: number) {
    this.slots = (buffer.byteLength - WORDS_BYTES) / (HASHES_BYTES + CHUNK_SIZE);
    this.words = new Int32Array(buffer, 0, WORDS_BYTES / 4);
    const slots = Array.from({ length: this.slots }, (_, slot) => slot);
    const bytesAt = WORDS_BYTES + this.slots * HASHES_BYTES;
    this.#hashes = slots.map(
      (slot) => new BigUint64Array(buffer, WORDS_BYTES + slot * HASHES_BYTES, CHUNK_PAGES),
    );
    this.#bytes = slots.map((slot) => Buffer.from(buffer, bytesAt + slot * CHUNK_SIZE, CHUNK_SIZE));
    this.#awaited = awaited;
  }

  /** Waits no more, now or later. */
  end(): void {
    this.isOver = true;
    this.wake(this.#awaited); // a wait would keep the memory
  }

  /** Waits while the word that the other end writes has that value. */
  protected async wait(value: number): Promise<void> {
    if (this.words[NUMBER] === 0) {
      const wait = Atomics.waitAsync(this.words, this.#awaited, value);
      if (wait.async) await wait.value;
    } else if (this.words[this.#awaited] === value) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const key = this.#keyOf(this.#awaited);
      waiting.set(key, [...(waiting.get(key) ?? []), resolve]);
      await promise;
    }
  }

  /** Wakes who waits for that word. */
  protected wake(word: number): void {
    if (this.words[NUMBER] === 0) {
      Atomics.notify(this.words, word);
      return;
    }
    const key = this.#keyOf(word);
    const woken = waiting.get(key);
    if (woken === undefined) return;
    waiting.delete(key);
    for (const resolve of woken) resolve();
  }

  #keyOf(word: number): string {
    return `${this.words[NUMBER]} ${word}`;
  }

  /** Where the words of the n-th chunk since the beginning stand. */
  protected wordsOf(n: number): number {
    return HEAD_WORDS + (n % this.slots) * SLOT_WORDS;
  }

  protected bytesOf(n: number): Buffer {
    return this.#bytes[n % this.slots]!;
  }

  protected hashesOf(n: number): BigUint64Array {
    return this.#hashes[n % this.slots]!;
  }
}

/** A chunk for which there was no room: its pages, and its round once it is published. */
interface Backlogged {
  readonly chunk: number;
  readonly pages: Map<number, Buffer | undefined>;
  round: number | undefined;
}

/**
 * The writer's end: one chunk is open at a time. What is put while the ring is full waits in a
 * backlog: whoever puts looks at `isFull` after each piece of its input, so the backlog is no
 * larger than a piece.
 */
export class ChunkRingWriter extends RingEnd {
  #published = 0;
  #at = -1;
  #bytes: Buffer | undefined;
  #hashes: BigUint64Array | undefined;
  readonly #hash: PageHash;
  readonly #backlog: Backlogged[] = [];

  constructor(buffer: SharedArrayBuffer) {
    super(buffer, FREED);
    this.#hash = new PageHash(new BigUint64Array(buffer)[SEED / 2]!);
  }

  /** True while chunks wait for room: no more is to be put. */
  get isFull(): boolean {
    return this.#backlog.length > 0;
  }

  /** Resolves when nothing waits for room any more, or when it is over. */
  async room(): Promise<void> {
    while (this.isFull && !this.isOver) {
      const freed = Atomics.load(this.words, FREED);
      if (this.#hasRoom(freed)) this.#placeOldest();
      else await this.wait(freed);
    }
  }

  /** Opens a chunk without pages. */
  open(chunk: number): void {
    if (!this.isFull && this.#hasRoom(Atomics.load(this.words, FREED))) this.#place(chunk);
    else this.#backlog.push({ chunk, pages: new Map(), round: undefined });
  }

  /** Puts a page into the open chunk: 4096 bytes from `at` on. A later one wins. */
  put(offset: number, bytes: Buffer, at: number): void {
    if (this.#backlog.length === 0) return this.#write(offset, bytes, at);
    const page = Buffer.from(bytes.subarray(at, at + PAGE_SIZE));
    this.#backlog.at(-1)!.pages.set(offset, page);
  }

  /** Puts a page of zeros into the open chunk, likewise. */
  zero(offset: number): void {
    if (this.#backlog.length === 0) this.#writeZero(offset);
    else this.#backlog.at(-1)!.pages.set(offset, undefined);
  }

  /** Gives the open chunk to the reader, as part of that round. */
  publish(round: number): void {
    this.#published++;
    const waits = this.#backlog.at(-1);
    if (waits) waits.round = round;
    else this.#give(round);
  }

  /** Chunks given to the reader so far, or to be given when there is room. */
  get published(): number {
    return this.#published;
  }

  #hasRoom(freed: number): boolean {
    return Atomics.load(this.words, PUBLISHED) - freed < this.slots;
  }

  #placeOldest(): void {
    const { chunk, pages, round } = this.#backlog.shift()!;
    this.#place(chunk);
    for (const [offset, page] of pages)
      if (page === undefined) this.#writeZero(offset);
      else this.#write(offset, page, 0);
    if (round !== undefined) this.#give(round);
  }

  #place(chunk: number): void {
    const n = Atomics.load(this.words, PUBLISHED);
    this.#at = this.wordsOf(n);
    this.#bytes = this.bytesOf(n);
    this.#hashes = this.hashesOf(n);
    this.words[this.#at + CHUNK] = chunk;
    this.words.fill(0, this.#at + PRESENT, this.#at + SLOT_WORDS);
  }

  #write(offset: number, bytes: Buffer, at: number): void {
    const word = offset >>> 5;
    const bit = 1 << (offset & 31);
    this.words[this.#at + PRESENT + word]! |= bit;
    this.words[this.#at + ZERO + word]! &= ~bit;
    this.#hash.pageInto(this.#hashes!, offset, bytes, at);
    bytes.copy(this.#bytes!, offset * PAGE_SIZE, at, at + PAGE_SIZE);
  }

  #writeZero(offset: number): void {
    const word = offset >>> 5;
    const bit = 1 << (offset & 31);
    this.words[this.#at + PRESENT + word]! |= bit;
    this.words[this.#at + ZERO + word]! |= bit;
  }

  #give(round: number): void {
    this.words[this.#at + ROUND] = round;
    Atomics.add(this.words, PUBLISHED, 1);
    this.wake(PUBLISHED);
  }
}

export interface RingChunk {
  readonly chunk: number;
  readonly round: number;
  /** Offsets of its pages, rising. */
  readonly offsets: number[];
  /** Those of them that were named as zero pages: their bytes and hashes are anything. */
  readonly zeros: ReadonlySet<number>;
  /** xxh64 of the page at each offset; the reader's until the slot is freed. */
  readonly hashes: BigUint64Array;
  /** The slot, each page at its place; the reader's until it is freed. */
  readonly pages: Buffer;
}

/** The reader's end. */
export class ChunkRingReader extends RingEnd {
  #taken = 0;

  constructor(buffer: SharedArrayBuffer) {
    super(buffer, PUBLISHED);
  }

  /** The next chunk; waits for it. @throws GodwitError cancelled when it is over */
  async take(): Promise<RingChunk> {
    while (Atomics.load(this.words, PUBLISHED) === this.#taken && !this.isOver)
      await this.wait(this.#taken);
    if (this.isOver) throw new GodwitError('cancelled', 'the lane is wanted no more');
    const at = this.wordsOf(this.#taken);
    const [pages, hashes] = [this.bytesOf(this.#taken), this.hashesOf(this.#taken)];
    this.#taken++;
    const [chunk, round] = [this.words[at + CHUNK]!, this.words[at + ROUND]!];
    return { chunk, round, pages, hashes, ...this.#pagesAt(at) };
  }

  /** Gives so many slots back to the writer, of the chunks taken since the beginning, the oldest first. */
  free(chunks: number): void {
    if (Atomics.exchange(this.words, FREED, chunks) !== chunks) this.wake(FREED);
  }

  #pagesAt(at: number): Pick<RingChunk, 'offsets' | 'zeros'> {
    const offsets: number[] = [];
    const zeros = new Set<number>();
    for (let offset = 0; offset < CHUNK_PAGES; offset++) {
      const word = offset >>> 5;
      const bit = 1 << (offset & 31);
      if ((this.words[at + PRESENT + word]! & bit) === 0) continue;
      offsets.push(offset);
      if ((this.words[at + ZERO + word]! & bit) !== 0) zeros.add(offset);
    }
    return { offsets, zeros };
  }
}
