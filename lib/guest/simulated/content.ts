import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import { fillBinary } from './content-binary.ts';
import { type ContentMix, type PageKind, pageKindAt } from './content-mix.ts';
import { fillText } from './content-text.ts';
import { hash3, Random } from './random.ts';

/** Pages that hold the same bytes, on average. */
const COPIES = 4;
/** Duplicates come in runs of this length: the pages of one library. */
const DUPLICATE_RUN = 4;

/** Page content as a function of seed, pfn and generation alone. */
export class ContentGenerator {
  readonly #mix: ContentMix;
  readonly #seed: number;
  readonly #originals: number;
  readonly #random = new Random(0);

  constructor(mix: ContentMix, seed: number, pages: number) {
    this.#mix = mix;
    this.#seed = seed;
    const runs = (pages * mix.duplicate) / 100 / COPIES / DUPLICATE_RUN;
    this.#originals = Math.max(1, Math.floor(runs));
  }

  /** Puts the boot content of a page at `start`; false for a zero page, which is left untouched. */
  fillAtBoot(bytes: Uint8Array, start: number, pfn: number): boolean {
    const kind = pageKindAt(this.#mix, this.#seed, pfn);
    if (kind === 'zero') return false;
    if (kind === 'duplicate') {
      const run = hash3(this.#seed, pfn >>> 2, 0xd0b1e) % this.#originals;
      this.#fill('binary', bytes, start, run * DUPLICATE_RUN + (pfn % DUPLICATE_RUN), -1);
    } else {
      this.#fill(kind, bytes, start, pfn, 0);
    }
    return true;
  }

  /** Puts wholly new content at `start`, as a guest that reuses the page for something else. */
  rewrite(bytes: Uint8Array, start: number, pfn: number, generation: number): void {
    const kind = pageKindAt(this.#mix, this.#seed, pfn);
    const written = kind === 'text' || kind === 'random' ? kind : 'binary';
    this.#fill(written, bytes, start, pfn, generation);
  }

  #fill(kind: PageKind, bytes: Uint8Array, start: number, key: number, version: number): void {
    const random = this.#random;
    random.reseed(hash3(this.#seed, key, version));
    if (kind === 'text') fillText(bytes, start, start + PAGE_SIZE, random);
    else if (kind === 'binary') fillBinary(bytes, start, start + PAGE_SIZE, random);
    else fillRandom(bytes, start, random);
  }
}

/** Small changes in place, as counters, list heads and timestamps get: 1 to 4 spots of 4 to 32 bytes. */
export function changeInPlace(bytes: Uint8Array, random: Random): void {
  const draw = random.next();
  for (let spot = 0; spot <= (draw & 3); spot++) {
    const where = random.next();
    const start = (where % (PAGE_SIZE / 4)) * 4;
    const end = Math.min(PAGE_SIZE, start + 4 + ((where >>> 12) & 0x1c));
    for (let at = start; at < end; at += 4) putWord(bytes, at, random.next());
  }
}

/** Compressed files, encrypted data: nothing that a compressor can use. */
function fillRandom(bytes: Uint8Array, start: number, random: Random): void {
  for (let at = start; at < start + PAGE_SIZE; at += 4) putWord(bytes, at, random.next());
}

function putWord(bytes: Uint8Array, at: number, word: number): void {
  bytes[at] = word;
  bytes[at + 1] = word >>> 8;
  bytes[at + 2] = word >>> 16;
  bytes[at + 3] = word >>> 24;
}
