import { promisify } from 'node:util';
import { constants, type ZstdOptions, zstdCompress } from 'node:zlib';
import { asGodwitError, type GodwitError } from '../errors.ts';
import type { Link } from '../wire/link.ts';
import { type BatchEncoder, type EncodedBatch, type Known, withPacked } from './batch-encoder.ts';
import { BurstMeter } from './burst-meter.ts';
import type { RingChunk } from './chunk-ring.ts';
import { CompressionChoice, LEVEL_NAMES, LEVELS, type Level } from './compression.ts';
import type { Counters } from './counters.ts';
import { ENCODING_NAMES } from './encoding.ts';
import type { Pacer } from './pacer.ts';
import type { SendWindow, Slot } from './send-window.ts';

/** Batches of a lane that are compressed at once: a link that is waited for is worth two cores. */
const COMPRESSORS = 2;
/** How often the compression choice looks at the lane's rates. */
const INTERVAL_MS = 100;

export interface BatchSenderParts {
  readonly encoder: BatchEncoder;
  readonly compression: 'auto' | 'off';
  readonly window: SendWindow;
  readonly pacer: Pacer;
  readonly counters: Counters;
  readonly link: () => Link;
  /** Share of its time in which this thread had work. */
  readonly busy: () => number;
  readonly onFailure: (error: GodwitError) => void;
}

/** A chunk whose pages of the round are in a slot. */
export type Filled = RingChunk | Omit<RingChunk, keyof Known>;

/** Chunks of a lane become batches, compressed or not, and go out in their order. */
export class BatchSender {
  readonly #parts: BatchSenderParts;
  readonly #burst: BurstMeter;
  readonly #choice = new CompressionChoice();
  #interval = newInterval();
  /** The last chunk that was encoded is sent. */
  #lastSent: Promise<void> = Promise.resolve();
  /** Batches that are being compressed, or wait for those before them. */
  #packing = 0;
  /** Share of its time in which the receiver's worker had work, as it last said. */
  #peerBusy = 0;

  constructor(parts: BatchSenderParts) {
    this.#parts = parts;
    this.#burst = new BurstMeter(parts.counters);
  }

  /**
   * Encodes a chunk and sees to it that it is sent after those before it. What is compressed is so by a thread
   * of Node's pool, while this one encodes the next: at most COMPRESSORS of a lane at once.
   */
  async send(filled: Filled, slot: Slot): Promise<void> {
    const { round, chunk, offsets, pages } = filled;
    this.#burst.begin(this.#parts.window.outstanding + this.#packing);
    const isOff = this.#parts.compression === 'off';
    const level: Level = isOff ? 0 : this.#choice.next();
    // A link that no compression would help is not what takes the time.
    const spare = this.#choice.linkIsLimit && (isOff || level !== 0);
    const known = 'hashes' in filled ? filled : undefined;
    const batch = this.#parts.encoder.encode(round, chunk, offsets, pages, level, spare, known);
    const isPacked = level !== 0 && batch.message.rawLength > 0;
    if (isPacked) this.#packing++;
    const [before, packed] = [this.#lastSent, isPacked ? pack(batch, level) : undefined];
    packed?.catch(() => {}); // it is waited for when those before it are sent
    const sent = this.#sendAfter(before, { batch, slot, level, packed });
    this.#lastSent = sent;
    sent.catch((error) => this.#parts.onFailure(asGodwitError(error))); // whoever waits next hears of it as well
    if (!isPacked) await sent;
    else if (this.#packing >= COMPRESSORS) await before;
  }

  async #sendAfter(before: Promise<void>, { batch: plain, slot, level, packed }: Leaving) {
    await before;
    const rawBytes = plain.message.rawLength;
    let batch = plain;
    if (packed) {
      const { bytes, seconds } = await packed.finally(() => this.#packing--);
      batch = withPacked(plain, bytes);
      this.#interval.compress += seconds / COMPRESSORS;
      this.#choice.batch(level, rawBytes, batch.message.rawLength, seconds / COMPRESSORS);
    }
    const { message, payload, contentBytes } = batch;
    const bytes = payload[0].length + payload[1].length;
    const pacedMs = performance.now();
    await this.blocked(() => this.#parts.pacer.pass(bytes));
    this.#burst.waited(performance.now() - pacedMs);
    const sequence = this.#parts.link().send('PageBatch', message, payload);
    this.#parts.window.sent(slot, sequence, contentBytes);
    this.#burst.sent(sequence, contentBytes);

    const counters = this.#parts.counters;
    counters.add('pages', message.encodings.length);
    for (const encoding of message.encodings) counters.add(ENCODING_NAMES[encoding]!, 1);
    counters.add('wireBytes', bytes + message.hashes.length);
    counters.add('rawBytes', rawBytes);
    counters.add('rawWireBytes', message.rawLength);
    if (rawBytes > 0) counters.add(LEVEL_NAMES[LEVELS.indexOf(level)]!, 1);

    this.#interval.wire += bytes;
    this.#interval.guest += contentBytes;
    this.#endInterval();
  }

  /** Resolves when all chunks so far are sent. */
  allSent(): Promise<void> {
    return this.#lastSent;
  }

  /** The receiver has the batch and all before it; the share of its time in which its worker had work. */
  acknowledged(sequence: number, peerBusy: number): void {
    this.#peerBusy = peerBusy;
    this.#burst.acknowledged(sequence);
  }

  /** What was before is nobody's cost. */
  beginInterval(): void {
    this.#interval = newInterval();
  }

  /** There was nothing to send, for that long: because of the link, or of nobody here. */
  waited(ms: number, linkIsFull: boolean): void {
    if (linkIsFull) this.#interval.blocked += ms;
    else this.#interval.since += ms;
  }

  /** Runs a wait for the link and counts its time as such. */
  async blocked<T>(wait: () => Promise<T>): Promise<T> {
    const since = performance.now();
    try {
      return await wait();
    } finally {
      this.#interval.blocked += performance.now() - since;
    }
  }

  #endInterval(): void {
    const now = performance.now();
    const { since, blocked, compress, wire, guest } = this.#interval;
    if (now - since < INTERVAL_MS) return;
    this.#choice.interval({
      seconds: (now - since) / 1000,
      blockedSeconds: blocked / 1000,
      compressSeconds: compress,
      wireBytes: wire,
      guestBytes: guest,
      busiest: Math.max(this.#peerBusy, this.#parts.busy()),
    });
    this.#interval = newInterval();
  }
}

/** A batch on its way to the socket. */
interface Leaving {
  readonly batch: EncodedBatch;
  readonly slot: Slot;
  readonly level: Level;
  /** Its raw section, if it is compressed. */
  readonly packed: Promise<{ bytes: Uint8Array; seconds: number }> | undefined;
}

const zstd = promisify<Uint8Array, ZstdOptions, Buffer>(zstdCompress);

async function pack({ payload: [raw] }: EncodedBatch, level: Level) {
  const startedMs = performance.now();
  const params = { [constants.ZSTD_c_compressionLevel]: level };
  const bytes = await zstd(raw, { chunkSize: raw.length, params });
  return { bytes, seconds: (performance.now() - startedMs) / 1000 };
}

/** What the compression choice is told about: since when, waiting ms, compressing s, bytes. */
function newInterval() {
  return { since: performance.now(), blocked: 0, compress: 0, wire: 0, guest: 0 };
}
