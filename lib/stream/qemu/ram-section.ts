import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import type { ByteWindow, Parsing } from '../byte-window.ts';
import { readName } from './configuration.ts';
import { nameIn, type RamBlock, RECORD, RECORD_FLAGS } from './format.ts';
import { refuse } from './refusal.ts';

/** What the records of a RAM section say; `block` is an index into the block list. */
export interface PageSink {
  /** 4096 bytes from `at` on, valid during the call. */
  page(block: number, offset: number, bytes: Buffer, at: number): void;
  zero(block: number, offset: number): void;
}

/** Records of the block that the last one was of. */
const NEXT_PAGE = RECORD.PAGE | RECORD.CONTINUE;
const NEXT_ZERO = RECORD.ZERO | RECORD.CONTINUE;

/** Reads the bodies of the RAM's sections (ram_load in migration/ram.c), each up to its EOS. */
export class RamSection {
  readonly #window: ByteWindow;
  readonly #sink: PageSink;
  readonly #blocks: RamBlock[] = [];
  readonly #indexOf = new Map<string, number>();
  /** Block of the last page record: CONTINUE means this one, in a later section too. */
  #block = -1;
  #length = 0;

  constructor(window: ByteWindow, sink: PageSink) {
    this.#window = window;
    this.#sink = sink;
  }

  /** In the stream's order; complete when START was read. */
  get blocks(): readonly RamBlock[] {
    return this.#blocks;
  }

  /**
   * Body of START: the block list, of which only the total length is given beforehand.
   * @param mostBytes the list may not end beyond this byte of the stream
   */
  *readBlockList(mostBytes: number): Parsing {
    const window = this.#window;
    yield* window.need(8);
    const at = window.position;
    const word = window.u64();
    const flags = word % (RECORD_FLAGS + 1);
    if (flags !== RECORD.MEM_SIZE) refuse(at, describe(flags));
    for (let left = word - flags; left > 0; ) {
      if (window.position > mostBytes) refuse(window.position, 'an endless list of RAM blocks');
      left -= yield* this.#readBlock(left);
    }
    yield* window.need(8);
    const end = window.position;
    const last = window.u64();
    const lastFlags = last % (RECORD_FLAGS + 1);
    checkEnd(end, lastFlags, last - lastFlags);
  }

  *#readBlock(most: number): Parsing<number> {
    const window = this.#window;
    const at = window.position;
    const name = yield* readName(window);
    yield* window.need(8);
    const length = window.u64();
    if (length > most) refuse(at, `RAM block ${name} of ${length} bytes where ${most} are left`);
    if (length % PAGE_SIZE !== 0 || !Number.isSafeInteger(length))
      refuse(at, `RAM block ${name} of ${length} bytes, which are no whole pages`);
    if (this.#indexOf.has(name)) refuse(at, `RAM block ${name} for the second time`);
    this.#indexOf.set(name, this.#blocks.length);
    this.#blocks.push({ name, length });
    return length;
  }

  /** Body of PART and END. */
  *readRecords(): Parsing {
    const window = this.#window;
    for (;;) {
      this.#readWhole();
      if (!window.has(8)) yield* window.need(8);
      const at = window.position;
      const high = window.u32();
      const low = window.u32();
      const flags = low & RECORD_FLAGS;
      const offset = high * 2 ** 32 + (low - flags);
      const kind = flags & ~RECORD.CONTINUE;
      if (kind !== RECORD.PAGE && kind !== RECORD.ZERO) return checkEnd(at, flags, offset);
      if (kind === flags) yield* this.#readBlockName(at);
      else if (this.#block < 0) refuse(at, 'a page record without a block, as the first of all');
      if (offset >= this.#length) this.#refuseOffset(at, offset);
      if (kind === RECORD.PAGE) {
        if (!window.has(PAGE_SIZE)) yield* window.need(PAGE_SIZE);
        const from = window.skip(PAGE_SIZE);
        this.#sink.page(this.#block, offset, window.bytes, from);
      } else {
        if (!window.has(1)) yield* window.need(1);
        if (window.u8() !== 0) refuse(at, 'a page filled with a byte other than 0');
        this.#sink.zero(this.#block, offset);
      }
    }
  }

  /**
   * The hot loop: records of the same block that are here as a whole and are what they should be. Each page is
   * a look at 8 bytes, and no object is made. What is anything else is left to the grammar.
   */
  #readWhole(): void {
    const { bytes, at: from } = this.#window;
    const [block, length, sink] = [this.#block, this.#length, this.#sink];
    let at = from;
    for (const end = bytes.length - 8; at < end; ) {
      const low =
        (bytes[at + 4]! << 24) | (bytes[at + 5]! << 16) | (bytes[at + 6]! << 8) | bytes[at + 7]!;
      const flags = low & RECORD_FLAGS;
      const offset = (low - flags) >>> 0;
      const high =
        (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
      const place = (high >>> 0) * 2 ** 32 + offset;
      if (place >= length) break;
      if (flags === NEXT_PAGE && at + PAGE_SIZE <= end) {
        sink.page(block, place, bytes, at + 8);
        at += 8 + PAGE_SIZE;
      } else if (flags === NEXT_ZERO && bytes[at + 8] === 0) {
        sink.zero(block, place);
        at += 9;
      } else break;
    }
    this.#window.skip(at - from);
  }

  *#readBlockName(at: number): Parsing {
    const name = yield* readName(this.#window);
    const block = this.#indexOf.get(name);
    if (block === undefined) refuse(at, `a page of RAM block ${name}, which is not in its list`);
    this.#block = block;
    this.#length = this.#blocks[block]!.length;
  }

  #refuseOffset(at: number, offset: number): never {
    const { name, length } = this.#blocks[this.#block]!;
    refuse(at, `page offset ${offset} of RAM block ${name}, which has ${length} bytes`);
  }
}

/** A record that is no page must be the EOS. */
function checkEnd(at: number, flags: number, offset: number): void {
  if (flags !== RECORD.EOS) refuse(at, describe(flags));
  if (offset !== 0) refuse(at, 'an EOS record with an offset');
}

/** A record that is not taken, and what would bring it about. */
function describe(flags: number): string {
  const kind = flags & ~RECORD.CONTINUE;
  const name = `a RAM record ${nameIn(RECORD, kind)}`;
  if (kind === RECORD.XBZRLE) return `${name}: the capability xbzrle must be off`;
  if (kind === RECORD.COMPRESS_PAGE) return `${name}: the capability compress must be off`;
  if (kind === RECORD.MULTIFD_FLUSH) return `${name}: the capability multifd must be off`;
  if (kind === RECORD.HOOK) return `${name}, which belongs to RDMA`;
  return `${name}, which has no place here`;
}
