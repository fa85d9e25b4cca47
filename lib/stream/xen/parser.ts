import { ByteWindow, type Parsing } from '../byte-window.ts';
import { LIBXC, LIBXL, padded } from './format.ts';
import { LONGEST_CONFIG, readLibxcHeaders, readLibxlHeader, readXlHeader } from './headers.ts';
import { type PageSink, readPageData } from './page-data.ts';
import { checkLibxc, checkLibxl } from './records.ts';

/** A record that is passed on as it is: everything but PAGE_DATA. */
export interface PassedRecord {
  readonly layer: 'libxl' | 'libxc';
  readonly type: number;
  /** Bytes of its body, without padding. */
  readonly length: number;
}

/** What a stream holds, as it is read. Views of bytes are valid during the call only. */
export interface XenStreamSink extends PageSink {
  /** xl's header was read. @param config libxl_domain_config as JSON; its text is not looked at */
  configured(config: string): void;
  /** The headers of libxc were read. */
  began(isPv: boolean): void;
  /** A record begins, of which `passed` gives every byte. */
  record(record: PassedRecord): void;
  /** Bytes that belong, in that order, between what `pageData` tells of: headers, and records whole. */
  passed(bytes: Buffer): void;
  /** libxl's END was read, the last record. */
  ended(): void;
  /** Bytes after the end: xl's messages, as they come. */
  after(bytes: Buffer): void;
}

/** In one piece of a body; the window holds the longest token there is. */
const PIECE = 4096;

/**
 * Reads the stream of an `xl migrate`, cut anywhere. A pure parser: the sink is called inside `feed`.
 *
 * Unknown optional records are passed, unknown mandatory ones refused, and so are those that have no
 * place in a migration: checkpoints, which belong to Remus and COLO. What it refuses, or the sink
 * throws, ends it for good: `feed` throws the first reason from then on.
 *
 * Memory: one token (the longest is xl's configuration) and the pfns of one PAGE_DATA.
 */
export class XenStreamParser {
  readonly #sink: XenStreamSink;
  readonly #window = new ByteWindow(LONGEST_CONFIG);
  readonly #stream: Parsing;
  #poison: { readonly reason: unknown } | undefined;

  constructor(sink: XenStreamSink) {
    this.#sink = sink;
    this.#stream = this.#readStream();
  }

  /** Bytes of the stream that were read as whole tokens. */
  get position(): number {
    return this.#window.position;
  }

  /**
   * Takes the next bytes of the stream; they are not needed after the call.
   * @throws GodwitError xen-stream, or what the sink threw
   */
  feed(bytes: Buffer): void {
    if (this.#poison !== undefined) throw this.#poison.reason;
    try {
      this.#window.push(bytes);
      this.#stream.next();
    } catch (reason) {
      this.#poison = { reason };
      throw reason;
    }
  }

  *#readStream(): Parsing {
    const xl = yield* readXlHeader(this.#window);
    this.#sink.configured(xl.says);
    this.#sink.passed(xl.bytes);
    this.#sink.passed((yield* readLibxlHeader(this.#window)).bytes);
    yield* this.#readLibxl();
    this.#sink.ended();
    for (;;) {
      const rest = this.#window.rest();
      if (rest.length > 0) this.#sink.after(rest);
      yield;
    }
  }

  *#readLibxl(): Parsing {
    for (let hasMemory = false; ; ) {
      const at = this.#window.position;
      const { type, length, head } = yield* this.#readHead();
      checkLibxl(at, type, length, hasMemory);
      yield* this.#pass({ layer: 'libxl', type, length }, head);
      if (type === LIBXL.END) return;
      if (type !== LIBXL.LIBXC_CONTEXT) continue;
      hasMemory = true;
      yield* this.#readLibxc();
    }
  }

  *#readLibxc(): Parsing {
    const headers = yield* readLibxcHeaders(this.#window);
    this.#sink.began(headers.says.isPv);
    this.#sink.passed(headers.bytes);
    for (;;) {
      const at = this.#window.position;
      const { type, length, head } = yield* this.#readHead();
      checkLibxc(at, type, length);
      if (type === LIBXC.PAGE_DATA) {
        yield* readPageData(this.#window, length, this.#sink);
        continue;
      }
      yield* this.#pass({ layer: 'libxc', type, length }, head);
      if (type === LIBXC.END) return;
    }
  }

  *#readHead(): Parsing<{ type: number; length: number; head: Buffer }> {
    yield* this.#window.need(8);
    const head = this.#window.take(8);
    return { type: head.readUInt32LE(0), length: head.readUInt32LE(4), head };
  }

  *#pass(record: PassedRecord, head: Buffer): Parsing {
    this.#sink.record(record);
    this.#sink.passed(head);
    for (let left = padded(record.length); left > 0; ) {
      const piece = Math.min(left, PIECE);
      yield* this.#window.need(piece);
      this.#sink.passed(this.#window.take(piece));
      left -= piece;
    }
  }
}
