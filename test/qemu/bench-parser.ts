import assert from 'node:assert/strict';
import { PAGE_SIZE } from '../../lib/memory/guest-layout.ts';
import { StreamParser, type StreamSink } from '../../lib/stream/qemu/parser.ts';
import {
  configuration,
  header,
  join,
  name,
  ramEnd,
  ramPart,
  ramStart,
  u8,
  u64,
} from '../stream/qemu/builder.ts';
import { memoryContent } from './bench-content.ts';

const BLOCK = 'pc.ram';
const [ZERO, PAGE, CONTINUE] = [0x02, 0x08, 0x20];
const ZERO_PAGE = Buffer.alloc(PAGE_SIZE);

/** GB of stream per second that the parser alone reads, fed so many bytes at a time. */
export function parserRate(stream: Buffer, feedBytes: number): number {
  const reader = new Reader();
  const parser = new StreamParser(reader);
  const started = performance.now();
  for (let at = 0; at < stream.length; at += feedBytes)
    parser.feed(stream.subarray(at, at + feedBytes));
  const ms = performance.now() - started;
  assert(reader.ended, 'the parser has read all of it');
  return stream.length / ms / 1e6;
}

/** The stream of a guest of so many bytes, up to the end of its RAM. */
export function recordedStream(bytes: number): Buffer {
  const parts: Buffer[] = [header(), configuration(), ramStart([[BLOCK, bytes]])];
  let offset = 0;
  for (const chunk of memoryContent(bytes)) {
    const records: Buffer[] = [];
    for (let at = 0; at < chunk.length; at += PAGE_SIZE, offset += PAGE_SIZE)
      records.push(...record(offset, chunk.subarray(at, at + PAGE_SIZE)));
    parts.push(ramPart(records));
  }
  return join(...parts, ramEnd());
}

function record(offset: number, page: Buffer): Buffer[] {
  const isZero = page.equals(ZERO_PAGE);
  const flags = (isZero ? ZERO : PAGE) + (offset === 0 ? 0 : CONTINUE);
  const head = offset === 0 ? [u64(flags), name(BLOCK)] : [u64(offset + flags)];
  return [...head, isZero ? u8(0) : page];
}

/** Reads each page, as whoever takes them out of the stream has to. */
class Reader implements StreamSink {
  ended = false;
  readonly #page = Buffer.allocUnsafeSlow(PAGE_SIZE);

  page(_block: number, _offset: number, bytes: Buffer, at: number): void {
    bytes.copy(this.#page, 0, at, at + PAGE_SIZE);
  }

  ramEnded(): void {
    this.ended = true;
  }

  zero(): void {}
  blocks(): void {}
  command(): void {}
  tail(): void {}
}
