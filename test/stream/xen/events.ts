import { crc32 } from 'node:zlib';
import type { PageData } from '../../../lib/stream/xen/page-data.ts';
import {
  type PassedRecord,
  XenStreamParser,
  type XenStreamSink,
} from '../../../lib/stream/xen/parser.ts';

/** What a sink was told, in order; bytes that were passed as one line for each row of them. */
export class Events implements XenStreamSink {
  readonly lines: string[] = [];
  #passed: Buffer[] = [];
  #after: Buffer[] = [];

  configured(config: string): void {
    this.#say(`config ${config}`);
  }
  began(isPv: boolean): void {
    this.#say(`libxc ${isPv ? 'pv' : 'hvm'}`);
  }
  record({ layer, type, length }: PassedRecord): void {
    this.#say(`${layer} ${type} ${length}`);
  }
  passed(bytes: Buffer): void {
    this.#passed.push(Buffer.from(bytes));
  }
  pageData({ pages, firstPfn, lastPfn }: PageData): void {
    this.#say(`pages ${pages} ${firstPfn} ${lastPfn}`);
  }
  page(pfn: number, type: number, bytes: Buffer | undefined, at: number): void {
    const page = bytes?.subarray(at, at + 4096);
    this.#say(`page ${pfn} ${type} ${page ? `${page.length} ${crc32(page)}` : 'none'}`);
  }
  pageDataEnds(): void {
    this.#say('pages end');
  }
  ended(): void {
    this.#say('end');
  }
  after(bytes: Buffer): void {
    this.#after.push(Buffer.from(bytes));
  }

  /** The events so far. */
  all(): string[] {
    this.#settle();
    const after = Buffer.concat(this.#after);
    return after.length === 0 ? this.lines : [...this.lines, `after ${after.toString('latin1')}`];
  }

  #say(line: string): void {
    this.#settle();
    this.lines.push(line);
  }

  #settle(): void {
    const bytes = Buffer.concat(this.#passed);
    this.#passed = [];
    if (bytes.length > 0) this.lines.push(`passed ${bytes.length} ${crc32(bytes)}`);
  }
}

/** A parser with its events. */
export function collecting() {
  const events = new Events();
  return { events, parser: new XenStreamParser(events) };
}

/** Everything that a stream says when it comes in pieces of these lengths, taken in turn. */
export function eventsOf(stream: Buffer, ...lengths: number[]): string[] {
  const { events, parser } = collecting();
  feedIn(lengths, stream, parser);
  return events.all();
}

/** Feeds from one buffer that is used again, as a reader of a socket does. */
export function feedIn(
  lengths: readonly number[],
  stream: Buffer,
  parser: { feed(bytes: Buffer): void },
): void {
  const reused = Buffer.allocUnsafe(Math.max(...lengths, 0) || stream.length);
  for (let at = 0, i = 0; at < stream.length; i++) {
    const length = lengths.length === 0 ? stream.length : lengths[i % lengths.length]!;
    const copied = stream.copy(reused, 0, at, at + length);
    parser.feed(reused.subarray(0, copied));
    reused.fill(0xee, 0, copied);
    at += copied;
  }
}
