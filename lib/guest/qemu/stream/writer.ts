import assert from 'node:assert/strict';
import { PAGE_SIZE } from '../../../memory/guest-layout.ts';
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
 * The prologue is what the parser collected, verbatim. Results are pieces to write one after the
 * other (`writev`): page bytes are not copied, and belong to the writer's caller until written.
 */
export class StreamWriter {
  readonly #section: number;
  /** Block of the record before, of an earlier part too: CONTINUE is relative to what was sent. */
  #block: string | undefined;

  /** @param section number of the RAM's section in the prologue */
  constructor(section: number) {
    this.#section = section;
  }

  /** A PART section with these pages; later pages win over earlier ones. */
  part(records: readonly PageRecord[]): Buffer[] {
    const pieces = new Pieces(records.reduce(addHead, SECTION_HEAD + SECTION_FOOT));
    this.#head(pieces, ELEMENT.PART);
    for (const record of records) this.#record(pieces, record);
    this.#foot(pieces);
    return pieces.done();
  }

  /** What the source sent before END of the RAM (`StreamParser.beforeEnd`), and END. */
  end(beforeEnd: Buffer): Buffer[] {
    const pieces = new Pieces(SECTION_HEAD + SECTION_FOOT);
    this.#head(pieces, ELEMENT.END);
    this.#foot(pieces);
    return [Buffer.concat([beforeEnd, ...pieces.done()])];
  }

  #head(pieces: Pieces, type: number): void {
    pieces.u8(type);
    pieces.u32(this.#section);
  }

  #foot(pieces: Pieces): void {
    pieces.word(0, RECORD.EOS);
    pieces.u8(ELEMENT.FOOTER);
    pieces.u32(this.#section);
  }

  #record(pieces: Pieces, { block, offset, bytes }: PageRecord): void {
    assert(offset % PAGE_SIZE === 0);
    const continued = block === this.#block ? RECORD.CONTINUE : 0;
    pieces.word(offset, (bytes === undefined ? RECORD.ZERO : RECORD.PAGE) | continued);
    if (continued === 0) pieces.name(block);
    if (bytes === undefined) pieces.u8(0);
    else pieces.page(bytes);
    this.#block = block;
  }
}

function addHead(size: number, { block }: PageRecord): number {
  return size + RECORD_HEAD + block.length;
}

/** Bytes written one after the other, with pages between them as they are. */
class Pieces {
  readonly #pieces: Buffer[] = [];
  readonly #bytes: Buffer;
  #at = 0;
  /** What of `#bytes` is in a piece. */
  #cut = 0;

  constructor(mostBytes: number) {
    this.#bytes = Buffer.allocUnsafeSlow(mostBytes);
  }

  u8(value: number): void {
    this.#at = this.#bytes.writeUInt8(value, this.#at);
  }

  u32(value: number): void {
    this.#at = this.#bytes.writeUInt32BE(value, this.#at);
  }

  /** A record's u64: byte offset and flags. */
  word(offset: number, flags: number): void {
    this.u32(Math.floor(offset / 2 ** 32));
    this.u32((offset % 2 ** 32) + flags);
  }

  name(name: string): void {
    this.u8(name.length);
    this.#at += this.#bytes.write(name, this.#at, 'latin1');
  }

  page(bytes: Buffer): void {
    assert(bytes.length === PAGE_SIZE);
    this.#flush();
    this.#pieces.push(bytes);
  }

  done(): Buffer[] {
    this.#flush();
    return this.#pieces;
  }

  #flush(): void {
    if (this.#at > this.#cut) this.#pieces.push(this.#bytes.subarray(this.#cut, this.#at));
    this.#cut = this.#at;
  }
}
