import assert from 'node:assert/strict';

/** A grammar: it yields where it needs bytes that are not here yet, and goes on with the next. */
export type Parsing<T = void> = Generator<void, T, void>;

const EMPTY = Buffer.alloc(0);

/**
 * Bytes that arrive cut anywhere, read in tokens of known length. A token that lies whole within
 * the bytes given is read where it is; one that is cut is gathered in the window's own buffer, the
 * only memory that it holds.
 *
 * A grammar asks before it reads: `yield* window.need(n)`, or in a hot loop
 * `if (!window.has(n)) yield* window.need(n)`.
 */
export class ByteWindow {
  readonly #carry: Buffer;
  /** What is being read: the bytes given, or the carry while it holds a cut token. */
  #bytes: Buffer = EMPTY;
  #at = 0;
  /** What was given and follows `#bytes`. */
  #next: Buffer = EMPTY;
  /** Stream offset of the first byte of `#bytes`. */
  #base = 0;

  constructor(longestToken: number) {
    this.#carry = Buffer.allocUnsafeSlow(longestToken);
  }

  /** Stream offset of the next byte to be read. */
  get position(): number {
    return this.#base + this.#at;
  }

  /** Adds bytes, valid until the grammar yields; all before were read or are in the carry. */
  push(bytes: Buffer): void {
    assert(this.#next.length === 0);
    this.#next = bytes;
  }

  /** True when `n` bytes can be read; when not, all that are here have been carried over. */
  has(n: number): boolean {
    return this.#bytes.length - this.#at >= n || this.#bring(n);
  }

  /** Returns when `n` bytes can be read. */
  *need(n: number): Parsing {
    while (!this.has(n)) yield;
  }

  u8(): number {
    return this.#bytes.readUInt8(this.skip(1));
  }

  u16(): number {
    return this.#bytes.readUInt16BE(this.skip(2));
  }

  u32(): number {
    return this.#bytes.readUInt32BE(this.skip(4));
  }

  /** Above 2^53 it is inexact, and still above 2^53. */
  u64(): number {
    const high = this.u32();
    return high * 2 ** 32 + this.u32();
  }

  /** A view, valid until the window is asked for more. */
  take(n: number): Buffer {
    const start = this.skip(n);
    return this.#bytes.subarray(start, this.#at);
  }

  /** Passes over `n` bytes; they begin there in `bytes`, until the window is asked for more. */
  skip(n: number): number {
    const start = this.#at;
    assert(start + n <= this.#bytes.length);
    this.#at += n;
    return start;
  }

  /** Where in `bytes` the next byte to be read is. */
  get at(): number {
    return this.#at;
  }

  /** What holds the bytes that were last brought: no view of it has to be made for each page. */
  get bytes(): Buffer {
    return this.#bytes;
  }

  /** The next byte, which stays to be read. */
  peek(): number {
    return this.#bytes.readUInt8(this.#at);
  }

  /** A view of all that is here; only where no token was begun. */
  rest(): Buffer {
    this.has(this.#next.length);
    return this.take(this.#bytes.length - this.#at);
  }

  #bring(n: number): boolean {
    const left = this.#bytes.length - this.#at;
    this.#base += this.#at;
    if (left === 0 && this.#next.length >= n) {
      this.#bytes = this.#next;
      this.#next = EMPTY;
    } else {
      assert(n <= this.#carry.length);
      this.#bytes.copy(this.#carry, 0, this.#at);
      const taken = this.#next.copy(this.#carry, left, 0, n - left);
      this.#bytes = this.#carry.subarray(0, left + taken);
      this.#next = this.#next.subarray(taken);
    }
    this.#at = 0;
    return this.#bytes.length >= n;
  }
}
