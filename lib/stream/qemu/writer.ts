import assert from 'node:assert/strict';
import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import { ELEMENT, RECORD } from './format.ts';

/** A page for the destination; without `bytes` it is a zero page. */
export interface PageRecord {
  /** Name of the RAM block. */
  readonly block: string;
  readonly offset: number;
  readonly bytes?: Buffer;
}

/** Type and number of a section, the EOS record, the footer. */
const SECTION_HEAD = 5;
const SECTION_FOOT = 8 + 5;

/** A record's u64, the length of the block's name, and a zero page's fill byte. */
const RECORD_HEAD = 8 + 1 + 1;

/**
 * Makes the stream for a destination QEMU:
 *
 *     prologue | part()... | end() | the source's tail, as it was received
 *
 * The prologue is what the parser collected, verbatim. Pages are copied into the part, so that it goes
 * in one write, which takes a little less than two pieces for each page.
 *
 * Memory: one buffer, as large as the largest part.
 */
export class StreamWriter {
  readonly #section: number;
  /** Block of the record before, of an earlier part too: CONTINUE is relative to what was sent. */
  #block: string | undefined;
  #bytes = Buffer.alloc(0);
  #at = 0;

  /** @param section number of the RAM's section in the prologue */
  constructor(section: number) {
    this.#section = section;
  }

  /**
   * A PART section with these pages; later pages win over earlier ones.
   * @returns valid until the next call
   */
  part(records: readonly PageRecord[]): Buffer {
    this.#begin(records.reduce((size, record) => size + mostBytes(record), 0));
    this.#head(ELEMENT.PART);
    for (const record of records) this.#record(record);
    this.#foot();
    return this.#bytes.subarray(0, this.#at);
  }

  /**
   * What the source sent before END of the RAM (`StreamParser.beforeEnd`), and END.
   * @returns valid until the next call
   */
  end(beforeEnd: Buffer): Buffer {
    this.#begin(beforeEnd.length);
    this.#at = beforeEnd.copy(this.#bytes);
    this.#head(ELEMENT.END);
    this.#foot();
    return this.#bytes.subarray(0, this.#at);
  }

  /** @param bytes between head and foot of a section, at most */
  #begin(bytes: number): void {
    const most = SECTION_HEAD + bytes + SECTION_FOOT;
    if (this.#bytes.length < most) this.#bytes = Buffer.allocUnsafeSlow(most);
    this.#at = 0;
  }

  #head(type: number): void {
    this.#u8(type);
    this.#u32(this.#section);
  }

  #foot(): void {
    this.#word(0, RECORD.EOS);
    this.#u8(ELEMENT.FOOTER);
    this.#u32(this.#section);
  }

  #record({ block, offset, bytes }: PageRecord): void {
    assert(offset % PAGE_SIZE === 0);
    const continued = block === this.#block ? RECORD.CONTINUE : 0;
    this.#word(offset, (bytes === undefined ? RECORD.ZERO : RECORD.PAGE) | continued);
    if (continued === 0) this.#name(block);
    if (bytes === undefined) this.#u8(0);
    else this.#page(bytes);
    this.#block = block;
  }

  #u8(value: number): void {
    this.#at = this.#bytes.writeUInt8(value, this.#at);
  }

  #u32(value: number): void {
    this.#at = this.#bytes.writeUInt32BE(value, this.#at);
  }

  /** A record's u64: byte offset and flags. */
  #word(offset: number, flags: number): void {
    this.#u32(Math.floor(offset / 2 ** 32));
    this.#u32((offset % 2 ** 32) + flags);
  }

  #name(name: string): void {
    this.#u8(name.length);
    this.#at += this.#bytes.write(name, this.#at, 'latin1');
  }

  #page(bytes: Buffer): void {
    assert(bytes.length === PAGE_SIZE);
    this.#at += bytes.copy(this.#bytes, this.#at);
  }
}

function mostBytes({ block, bytes }: PageRecord): number {
  return RECORD_HEAD + block.length + (bytes?.length ?? 0);
}
