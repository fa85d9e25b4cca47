import { crc32 } from 'node:zlib';
import { StreamParser, type StreamSink } from '../../../lib/stream/qemu/parser.ts';

/** What a sink was told, in order; the tail as one line, because its pieces follow the cuts. */
export class Events implements StreamSink {
  readonly lines: string[] = [];
  readonly #tail: Buffer[] = [];

  blocks(blocks: readonly { name: string; length: number }[]): void {
    for (const { name, length } of blocks) this.lines.push(`block ${name} ${length}`);
  }
  page(block: number, offset: number, bytes: Buffer, at: number): void {
    const page = bytes.subarray(at, at + 4096);
    this.lines.push(`page ${block} ${offset} ${page.length} ${crc32(page)}`);
  }
  zero(block: number, offset: number): void {
    this.lines.push(`zero ${block} ${offset}`);
  }
  command(command: number, payload: Buffer): void {
    this.lines.push(`command ${command} ${payload.toString('hex')}`);
  }
  ramEnded(): void {
    this.lines.push('ram ended');
  }
  tail(bytes: Buffer): void {
    this.#tail.push(Buffer.from(bytes));
  }

  /** The events so far, and the tail if there is one. */
  all(): string[] {
    const tail = Buffer.concat(this.#tail);
    return tail.length === 0 ? this.lines : [...this.lines, `tail ${tail.length} ${crc32(tail)}`];
  }
}

/** A parser with its events. */
export function collecting() {
  const events = new Events();
  return { events, parser: new StreamParser(events) };
}

/** Everything that a stream says when it comes in pieces of these lengths, taken in turn. */
export function eventsOf(stream: Buffer, ...lengths: number[]): string[] {
  const { events, parser } = collecting();
  feedIn(lengths, stream, parser);
  return events.all();
}

/** Feeds from one buffer that is used again, as a reader of a socket does. */
export function feedIn(lengths: readonly number[], stream: Buffer, parser: StreamParser): void {
  const reused = Buffer.allocUnsafe(Math.max(...lengths, 0) || stream.length);
  for (let at = 0, i = 0; at < stream.length; i++) {
    const length = lengths.length === 0 ? stream.length : lengths[i % lengths.length]!;
    const copied = stream.copy(reused, 0, at, at + length);
    parser.feed(reused.subarray(0, copied));
    reused.fill(0xee, 0, copied);
    at += copied;
  }
}
