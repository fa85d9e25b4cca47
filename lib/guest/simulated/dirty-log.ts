import { PageSet } from '../../memory/page-set.ts';

/** Words of the shared flag array. */
const ENABLED = 0;

/**
 * The dirty log of a guest, shared by its vCPU threads and the VMM's main thread. A page is marked
 * after it was written and a harvest takes each word with an atomic exchange, so a write is either
 * in the harvest, and then already in memory, or in the next one.
 */
export class DirtyLog {
  readonly shared: { readonly bitmap: SharedArrayBuffer; readonly flag: SharedArrayBuffer };
  readonly #words: Uint32Array;
  readonly #flag: Int32Array;

  /** A log for `pages` pages, or the log of another thread by what it shares. */
  constructor(pages: number, shared?: DirtyLog['shared']) {
    this.shared = shared ?? {
      bitmap: new PageSet(pages).buffer,
      flag: new SharedArrayBuffer(4),
    };
    this.#words = new Uint32Array(this.shared.bitmap);
    this.#flag = new Int32Array(this.shared.flag);
  }

  /** Begins with a clean log. A write that finished before this may be left out of it. */
  start(): void {
    this.#words.fill(0);
    Atomics.store(this.#flag, ENABLED, 1);
  }

  stop(): void {
    Atomics.store(this.#flag, ENABLED, 0);
  }

  get enabled(): boolean {
    return Atomics.load(this.#flag, ENABLED) === 1;
  }

  /** Called by the writer once the page's bytes are in memory. */
  mark(pfn: number): void {
    if (Atomics.load(this.#flag, ENABLED) === 0) return;
    Atomics.or(this.#words, pfn >>> 5, 1 << (pfn & 31));
  }

  /** Takes and clears the log: a bitmap, least significant bit first. */
  harvest(): Buffer {
    const taken = new Uint32Array(this.#words.length);
    for (let i = 0; i < taken.length; i++) {
      if (Atomics.load(this.#words, i) !== 0) taken[i] = Atomics.exchange(this.#words, i, 0);
    }
    return Buffer.from(taken.buffer);
  }
}
