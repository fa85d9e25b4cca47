import { load } from '../crew/load.ts';
import type { Begin } from '../crew/task.ts';
import { turns } from '../crew/turns.ts';
import { GodwitError } from '../errors.ts';
import { CHUNK_PAGES, CHUNK_SIZE, GuestLayout, PAGE_SIZE } from '../memory/guest-layout.ts';
import { GuestMemory } from '../memory/guest-memory.ts';
import { PageSet } from '../memory/page-set.ts';
import type { Connection, Received } from '../wire/connection.ts';
import { LaneDoor } from '../wire/lane-door.ts';
import { Link } from '../wire/link.ts';
import { BatchDecoder } from './batch-decoder.ts';
import { Counters } from './counters.ts';
import { ENCODING_NAMES } from './encoding.ts';
import { hashableMemory, PageHash } from './hash.ts';
import { HashTable } from './hash-table.ts';
import { hashKept, keptChunks } from './kept-hashes.ts';
import { KeyedHash } from './keyed-hashes.ts';
import type { ReceiveLaneData, ReceiveRequests } from './receive-protocol.ts';
import { RoundTags } from './round-tags.ts';
import { StateReceiver } from './state-receiver.ts';

/** Nothing that a receiver sends on a lane is acknowledged: there is no stall to see, ms. */
const STALL_MS = 60_000;
/** Chunks read to measure the verify rate: a millisecond or two. */
const RATE_CHUNKS = 4;

/**
 * A lane of the receiver: owns one data connection. It decodes, verifies, writes guest
 * memory and acknowledges; the main thread hears only of failures.
 */
class ReceiveLane {
  readonly #data: ReceiveLaneData;
  readonly #layout: GuestLayout;
  readonly #memory: GuestMemory;
  readonly #hash: PageHash;
  readonly #table: HashTable;
  readonly #decoder: BatchDecoder;
  readonly #counters: Counters;
  readonly #state: StateReceiver;
  readonly #fail: (error: GodwitError) => void;
  readonly #door: LaneDoor;
  #link: Link | undefined;
  /** It is hashing what was kept. */
  #telling = false;
  #over = false;

  constructor(data: ReceiveLaneData, onFailure: (error: GodwitError) => void) {
    this.#data = data;
    this.#fail = onFailure;
    this.#layout = new GuestLayout(data.regions);
    this.#memory = new GuestMemory(data.memory, 'read-write');
    this.#hash = new PageHash(data.hashSeed);
    this.#table = new HashTable(this.#layout, data.lane, data.lanes);
    this.#counters = new Counters(data.counters);
    const { state: spool, lane, lanes } = data;
    this.#state = new StateReceiver({ spool, lane, lanes, hash: this.#hash });
    this.#door = new LaneDoor({
      ...data,
      newPayloadBytes: hashableMemory,
      onOpen: (opened) => this.#take(opened),
    });
    this.#decoder = new BatchDecoder({
      layout: this.#layout,
      lane: data.lane,
      lanes: data.lanes,
      memory: this.#memory,
      hash: this.#hash,
      table: this.#table,
      arrived: new RoundTags(
        this.#layout.pfnEnd,
        data.roundTags,
        data.arrivals && new PageSet(this.#layout.pfnEnd, data.arrivals),
      ),
    });
  }

  listen(): Promise<number> {
    return this.#door.listen();
  }

  /** The peer sees its connection end, and nobody comes in any more. */
  close(): void {
    this.#over = true;
    this.#link?.close();
    this.#door.close();
    this.#memory.close();
    this.#state.close();
  }

  digest(): bigint {
    return this.#table.digest(this.#hash);
  }

  /** Every page of the lane as memory has it now, against the hash it arrived with. */
  async verify(): Promise<number | undefined> {
    const { lane, lanes, migration } = this.#data;
    const bytes = Buffer.allocUnsafeSlow(CHUNK_SIZE);
    for (let chunk = lane; chunk < this.#layout.chunks; chunk += lanes) {
      const region = this.#layout.regionOfChunk(chunk);
      if (!region) continue;
      await turns.next(migration, true); // the guest stands
      const firstPfn = chunk * CHUNK_PAGES;
      const pages = Math.min(CHUNK_PAGES, region.firstPfn + region.pages - firstPfn);
      this.#memory.read(firstPfn, pages, bytes, 0);
      for (let i = 0; i < pages; i++) {
        const page = bytes.subarray(i * PAGE_SIZE, (i + 1) * PAGE_SIZE);
        if (this.#hash.of(page) !== this.#table.get(firstPfn + i)) return firstPfn + i;
      }
    }
    return undefined;
  }

  verifyRate(): number {
    const { lane, lanes } = this.#data;
    const bytes = Buffer.allocUnsafeSlow(CHUNK_SIZE);
    const started = performance.now();
    let read = 0;
    for (let i = 0; i < RATE_CHUNKS; i++) {
      const firstPfn = (lane + i * lanes) * CHUNK_PAGES;
      const pages = CHUNK_PAGES;
      if (!this.#layout.has(firstPfn + pages - 1)) break;
      this.#memory.read(firstPfn, pages, bytes, 0);
      for (let at = 0; at < CHUNK_SIZE; at += PAGE_SIZE)
        this.#hash.of(bytes.subarray(at, at + PAGE_SIZE));
      read += CHUNK_SIZE;
    }
    return read / ((performance.now() - started) / 1000);
  }

  /** The sender's connection, or the one that takes the place of a lost one. */
  #take(lane: Connection): void {
    const greet = (received: number) =>
      void lane.send('LaneReady', { lane: this.#data.lane, received });
    if (this.#link) return this.#link.join(lane, 0, greet);
    greet(0);
    this.#telling = true;
    this.#tellKept(lane)
      .catch(() => {}) // what the sender does not hear of it sends
      .finally(() => {
        this.#telling = false;
      });
    this.#link = new Link(lane, {
      onMessage: (message) => this.#receive(message),
      busy: this.#data.tellsLoad ? () => this.#busy : undefined,
      onInput: (bytes) => this.#counters.add('heardBytes', bytes),
      mayRejoin: () => true,
      giveUpMs: undefined, // as long as the migration lives, which others decide
      stallMs: STALL_MS,
      onLost: () => {},
      onClose: (error) => {
        if (!this.#over)
          this.#fail(error ?? new GodwitError('peer-closed', 'a data connection was closed'));
      },
    });
  }

  /** For `Ack`. What it has left to hash keeps it busy, and keeps nobody waiting: then it does not say. */
  get #busy(): number {
    return this.#telling ? 0 : Math.round(load.share * 1000);
  }

  /**
   * Tells the sender what its pages are that stand here from an earlier time, chunk by chunk and on this
   * connection only.
   */
  async #tellKept(connection: Connection): Promise<void> {
    const { kept, lane, lanes, migration } = this.#data;
    if (kept === undefined) return;
    const copy = {
      ...{ layout: this.#layout, lane, lanes, memory: this.#memory },
      ...{ hash: this.#hash, table: this.#table, key: new KeyedHash(kept.secret) },
      regions: new Set(kept.regions),
    };
    for (const chunk of keptChunks(copy)) {
      await turns.next(migration, false);
      await connection.ready(); // rejects when it is over
      const entries = hashKept(copy, chunk);
      if (entries) connection.send('KeptHashes', { chunk }, [entries]);
    }
    connection.send('KeptHashes', { chunk: 0 });
  }

  #receive(received: Received): void {
    if (received.kind === 'StatePart') {
      this.#state.take(received.message, received.payload);
      this.#counters.add('wireBytes', received.payload.length);
      return;
    }
    if (received.kind !== 'PageBatch')
      throw new GodwitError('bad-kind', `${received.kind} on an open data connection`);
    const { message, payload } = received;
    const pages = this.#decoder.decode(message, payload);
    this.#counters.add('pages', pages);
    this.#counters.add('wireBytes', payload.length);
    for (const encoding of message.encodings) this.#counters.add(ENCODING_NAMES[encoding]!, 1);
  }
}

export const begin: Begin<ReceiveLaneData, ReceiveRequests> = (data, fail) => {
  const lane = new ReceiveLane(data, fail);
  return {
    handlers: {
      listen: () => lane.listen(),
      digest: () => lane.digest(),
      verify: () => lane.verify(),
      verifyRate: () => lane.verifyRate(),
    },
    close: () => lane.close(),
  };
};
