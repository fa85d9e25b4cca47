import { setImmediate, setTimeout } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { asGodwitError, GodwitError } from '../errors.ts';
import { CHUNK_PAGES, GuestLayout, PAGE_SIZE } from '../memory/guest-layout.ts';
import { GuestMemory } from '../memory/guest-memory.ts';
import { PageSet } from '../memory/page-set.ts';
import type { Channel } from '../wire/channel.ts';
import { connectChannel } from '../wire/connect.ts';
import { Link } from '../wire/link.ts';
import { redial } from '../wire/redial.ts';
import { BatchEncoder } from './batch-encoder.ts';
import { ChunkRingReader } from './chunk-ring.ts';
import { CompressionChoice, LEVEL_NAMES, LEVELS, type Level } from './compression.ts';
import { Counters } from './counters.ts';
import { ENCODING_NAMES } from './encoding.ts';
import { PageHash } from './hash.ts';
import { HashTable } from './hash-table.ts';
import { Pacer } from './pacer.ts';
import type { SendRequests, SendWorkerData } from './send-protocol.ts';
import { SendWindow, type Slot } from './send-window.ts';
import { serveRequests } from './worker-link.ts';

/** How often the compression choice looks at the channel's rates. */
const INTERVAL_MS = 100;
/** Clean pages between two dirty ones that are read along rather than cost another call. */
const READ_GAP = 8;

/**
 * A sender worker: owns one data connection and its share of the chunks. It reads guest memory,
 * encodes and sends; the main thread gives it a round and hears from it when the round is through.
 */
class SendWorker {
  readonly #data: SendWorkerData;
  /** Of a guest that is read; undefined when its pages come through a ring. */
  readonly #memory: GuestMemory | undefined;
  readonly #table: HashTable;
  readonly #hash: PageHash;
  readonly #encoder: BatchEncoder;
  readonly #window: SendWindow;
  readonly #pacer: Pacer;
  readonly #counters: Counters;
  readonly #interrupted: Int32Array;
  readonly #choice = new CompressionChoice();
  readonly #layout: GuestLayout;
  #link: Link | undefined;
  readonly #onFailure: (error: GodwitError) => void;
  #interval = newInterval();

  constructor(data: SendWorkerData, onFailure: (error: GodwitError) => void) {
    this.#data = data;
    this.#onFailure = onFailure;
    this.#layout = new GuestLayout(data.regions);
    if ('memory' in data.pages) this.#memory = new GuestMemory(data.pages.memory, 'read');
    this.#hash = new PageHash(data.hashSeed);
    this.#table = new HashTable(this.#layout, data.channel, data.channels);
    this.#encoder = new BatchEncoder(this.#hash, this.#table);
    this.#window = new SendWindow(data.window);
    this.#pacer = new Pacer(data.pacer);
    this.#counters = new Counters(data.counters);
    this.#interrupted = new Int32Array(data.interrupted);
  }

  async open(): Promise<void> {
    const { channel } = await this.#dial();
    this.#link = new Link(channel, {
      onMessage: ({ kind }) => {
        throw new GodwitError('bad-kind', `${kind} on an open data connection`);
      },
      onAck: (sequence) => this.#acknowledge(sequence),
      mayRejoin: () => this.#data.reconnectTimeoutMs > 0,
      onLost: (error) => this.#reconnect(error),
      onClose: (error) =>
        this.#fail(error ?? new GodwitError('peer-closed', 'a data connection was closed')),
    });
    this.#watchStall();
    const { pages } = this.#data;
    if ('ring' in pages)
      this.#pump(new ChunkRingReader(pages.ring)).catch((error) =>
        this.#fail(asGodwitError(error)),
      );
  }

  /** The connection is thought to be dead: tries another one. */
  suspect(error: GodwitError): void {
    this.#link?.drop(error);
  }

  /** A connection to the receiver's twin, and how many batches it has received. */
  async #dial(): Promise<{ readonly channel: Channel; readonly received: number }> {
    const { host, port, connectTimeoutMs, security, migration, channel, secret } = this.#data;
    const ready = Promise.withResolvers<number>();
    const connection = await connectChannel(
      { host, port, timeoutMs: connectTimeoutMs, security },
      {
        side: 'sender',
        connection: 'data',
        onMessage: ({ kind, message }) => {
          if (kind === 'ChannelReady') ready.resolve(message.received);
        },
        onClose: (error) =>
          ready.reject(error ?? new GodwitError('peer-closed', 'a data connection was closed')),
      },
    );
    connection.send('ChannelOpen', { migration, channel, secret });
    const late = new GodwitError('peer-silent', 'the receiver does not open the channel');
    const timer = globalThis.setTimeout(() => connection.destroy(late), connectTimeoutMs);
    const received = await ready.promise.finally(() => clearTimeout(timer));
    return { channel: connection, received };
  }

  #reconnect(lost: GodwitError): void {
    redial({
      lost,
      timeoutMs: this.#data.reconnectTimeoutMs,
      signal: new AbortController().signal, // the thread ends with the migration
      attempt: async () => {
        const { channel, received } = await this.#dial();
        this.#link!.join(channel, received);
      },
    }).catch((error) => this.#link!.giveUp(asGodwitError(error)));
  }

  #fail(error: GodwitError): void {
    this.#window.fail(error);
    this.#onFailure(error);
  }

  /** One pass over the channel's chunks of the set; true when it was interrupted. */
  async round(round: number, set: PageSet): Promise<boolean> {
    const { channel, channels } = this.#data;
    let cutShort = false;
    this.#interval = newInterval(); // the time between rounds is nobody's cost
    for (let chunk = channel; chunk < this.#layout.chunks; chunk += channels) {
      if (!set.hasChunk(chunk)) continue;
      if (Atomics.load(this.#interrupted, 0) >= round) {
        cutShort = true;
        break;
      }
      const slot = await this.#blocked(() => this.#window.take());
      const offsets = this.#read(chunk, set, slot.pages);
      set.clearChunk(chunk);
      await this.#sendChunk(round, chunk, offsets, slot);
    }
    await this.#window.drained();
    return cutShort;
  }

  /** Sends what comes through the ring, as long as the migration lives. */
  async #pump(ring: ChunkRingReader): Promise<never> {
    for (;;) {
      const slot = await this.#blocked(() => this.#window.take());
      const since = performance.now();
      const { round, chunk, offsets } = await ring.take(slot.pages);
      this.#interval.since += performance.now() - since; // the hypervisor's time is nobody's cost
      await this.#sendChunk(round, chunk, offsets, slot);
    }
  }

  async settled(chunks: number): Promise<undefined> {
    await this.#window.settled(chunks);
  }

  digest(): bigint {
    return this.#table.digest(this.#hash);
  }

  async #sendChunk(round: number, chunk: number, offsets: number[], slot: Slot): Promise<void> {
    const level: Level = this.#data.compression === 'off' ? 0 : this.#choice.next();
    const batch = this.#encoder.encode(round, chunk, offsets, slot.pages, level);
    const rawWire = batch.message.rawLength;
    this.#choice.batch(level, batch.rawBytes, rawWire, batch.compressSeconds);

    const bytes = batch.payload.reduce((sum, piece) => sum + piece.length, 0);
    const wait = this.#pacer.claim(bytes);
    if (wait >= 1) await this.#blocked(() => setTimeout(wait));
    const sequence = this.#link!.send('PageBatch', batch.message, batch.payload);
    this.#window.sent(slot, sequence, batch.contentBytes);

    const counters = this.#counters;
    counters.add('pages', offsets.length);
    for (const encoding of batch.message.encodings) counters.add(ENCODING_NAMES[encoding]!, 1);
    counters.add('wireBytes', bytes + batch.message.hashes.length);
    counters.add('rawBytes', batch.rawBytes);
    counters.add('rawWireBytes', rawWire);
    if (batch.rawBytes > 0) counters.add(LEVEL_NAMES[LEVELS.indexOf(level)]!, 1);

    this.#interval.wire += bytes;
    this.#interval.guest += batch.contentBytes;
    this.#interval.compress += batch.compressSeconds;
    this.#endInterval();
    // Lets the socket write on and acknowledgements in before the next chunk takes the thread.
    await setImmediate();
  }

  /** Reads the chunk's pages of the set, each to its place in the slot; returns their offsets. */
  #read(chunk: number, set: PageSet, into: Buffer): number[] {
    const firstPfn = chunk * CHUNK_PAGES;
    const offsets: number[] = [];
    let start = -1;
    let end = -1;
    const flush = () => {
      if (start !== -1) this.#memory!.read(firstPfn + start, end - start, into, start * PAGE_SIZE);
    };
    for (let offset = 0; offset < CHUNK_PAGES; offset++) {
      if (!set.has(firstPfn + offset)) continue;
      offsets.push(offset);
      if (start === -1 || offset - end > READ_GAP) {
        flush();
        start = offset;
      }
      end = offset + 1;
    }
    flush();
    return offsets;
  }

  #acknowledge(sequence: number): void {
    this.#counters.add('ackedContentBytes', this.#window.acknowledge(sequence));
  }

  /** Runs a wait for the link and counts its time as such. */
  async #blocked<T>(wait: () => Promise<T>): Promise<T> {
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
    });
    this.#interval = newInterval();
  }

  /** A receiver that takes batches and never acknowledges them is on a dead connection. */
  #watchStall(): void {
    const { stallTimeoutMs, channel } = this.#data;
    let seen = this.#window.acknowledged;
    setInterval(() => {
      const stalled = this.#window.outstanding > 0 && this.#window.acknowledged === seen;
      if (stalled && this.#link!.connected)
        this.#link!.drop(
          new GodwitError(
            'peer-silent',
            `the receiver acknowledged nothing on channel ${channel} for ${stallTimeoutMs} ms`,
          ),
        );
      seen = this.#window.acknowledged;
    }, stallTimeoutMs);
  }
}

/** What the compression choice is told about: since when, waiting ms, compressing s, bytes. */
function newInterval() {
  return { since: performance.now(), blocked: 0, compress: 0, wire: 0, guest: 0 };
}

const worker = new SendWorker(workerData as SendWorkerData, (error) => fail(error));
const fail = serveRequests<SendRequests>(parentPort, {
  open: async () => {
    await worker.open();
    return undefined;
  },
  round: ({ round, set }) => worker.round(round, pageSetOf(set)),
  settled: (chunks) => worker.settled(chunks),
  digest: () => worker.digest(),
  suspect: (reason) => {
    worker.suspect(new GodwitError('peer-silent', reason));
    return undefined;
  },
});

function pageSetOf(buffer: SharedArrayBuffer): PageSet {
  const { regions } = workerData as SendWorkerData;
  return new PageSet(new GuestLayout(regions).pfnEnd, buffer);
}
