import { load } from '../crew/load.ts';
import type { Begin } from '../crew/task.ts';
import { turns } from '../crew/turns.ts';
import { asGodwitError, GodwitError } from '../errors.ts';
import { CHUNK_PAGES, CHUNK_SIZE, GuestLayout, PAGE_SIZE } from '../memory/guest-layout.ts';
import { GuestMemory } from '../memory/guest-memory.ts';
import { PageSet } from '../memory/page-set.ts';
import { wantedNoMore } from '../wire/connect.ts';
import type { Connection, Received } from '../wire/connection.ts';
import { dialLane } from '../wire/dial.ts';
import { Link } from '../wire/link.ts';
import { redial } from '../wire/redial.ts';
import { BatchEncoder } from './batch-encoder.ts';
import { BatchSender } from './batch-sender.ts';
import { ChunkRingReader, type RingChunk } from './chunk-ring.ts';
import { Counters } from './counters.ts';
import { PageHash } from './hash.ts';
import { HashTable } from './hash-table.ts';
import { KeptHashes } from './kept-hashes.ts';
import { Pacer } from './pacer.ts';
import { ORDERS, type SendLaneData, type SendRequests } from './send-protocol.ts';
import { SendWindow } from './send-window.ts';
import { StateSender } from './state-sender.ts';

/** Clean pages between two dirty ones that are read along rather than cost another call. */
const READ_GAP = 8;

/**
 * A lane of the sender: owns one data connection and its share of the chunks. It reads guest memory,
 * encodes and sends; the main thread gives it a round and hears from it when the round is through.
 */
class SendLane {
  readonly #data: SendLaneData;
  /** Of a guest that is read; undefined when its pages come through a ring. */
  readonly #memory: GuestMemory | undefined;
  readonly #table: HashTable;
  readonly #hash: PageHash;
  readonly #window: SendWindow;
  readonly #state: StateSender;
  readonly #encoder: BatchEncoder;
  readonly #sender: BatchSender;
  readonly #pacer: Pacer;
  readonly #counters: Counters;
  readonly #orders: Int32Array;
  readonly #layout: GuestLayout;
  readonly #ring: ChunkRingReader | undefined;
  /** What the receiver has kept of the guest, if anything. */
  readonly #kept: KeptHashes | undefined;
  /** Aborts when the lane is wanted no more. */
  readonly #over = new AbortController();
  #link: Link | undefined;
  readonly #onFailure: (error: GodwitError) => void;
  /** The chunks of a round are on their way; resolved between rounds. */
  #roundSent = Promise.withResolvers<void>();

  constructor(data: SendLaneData, onFailure: (error: GodwitError) => void) {
    this.#data = data;
    this.#onFailure = onFailure;
    this.#layout = new GuestLayout(data.regions);
    if ('memory' in data.pages) this.#memory = new GuestMemory(data.pages.memory, 'read');
    this.#hash = new PageHash(data.hashSeed);
    this.#table = new HashTable(this.#layout, data.lane, data.lanes);
    this.#window = new SendWindow(data.window);
    this.#pacer = new Pacer(data.pacer);
    this.#counters = new Counters(data.counters);
    this.#encoder = new BatchEncoder(this.#hash, this.#table, data.keptSecret);
    if (data.keptSecret) this.#kept = new KeptHashes(this.#layout, data.lane, data.lanes);
    this.#sender = new BatchSender({
      encoder: this.#encoder,
      compression: data.compression,
      window: this.#window,
      pacer: this.#pacer,
      counters: this.#counters,
      link: () => this.#link!,
      busy: () => load.share,
      onFailure: (error) => this.#fail(error),
    });
    this.#orders = new Int32Array(data.orders);
    if ('ring' in data.pages) this.#ring = new ChunkRingReader(data.pages.ring);
    const { state: spool, lane, lanes } = data;
    const [hash, pacer, counters] = [this.#hash, this.#pacer, this.#counters];
    const turn = () => this.#turn();
    this.#state = new StateSender({ spool, lane, lanes, hash, pacer, counters, turn });
    this.#roundSent.resolve();
  }

  async open(): Promise<void> {
    await this.#dial((lane) => {
      this.#link = this.#newLink(lane);
    });
    if (this.#ring) this.#pump(this.#ring).catch((error) => this.#fail(asGodwitError(error)));
  }

  /** The peer sees the connection end; whatever waits here is rejected. */
  close(): void {
    const error = wantedNoMore();
    this.#over.abort(error);
    this.#ring?.end();
    this.#kept?.end();
    this.#window.fail(error);
    this.#state.close(error);
    this.#link?.close();
    this.#memory?.close();
  }

  #newLink(lane: Connection): Link {
    const { reconnectTimeoutMs, stallTimeoutMs } = this.#data;
    const link: Link = new Link(lane, {
      onMessage: (received) => this.#hear(received),
      onAck: (sequence, busy) => this.#acknowledge(sequence, busy),
      onInput: (bytes) => this.#counters.add('heardBytes', bytes),
      mayRejoin: () => reconnectTimeoutMs > 0,
      giveUpMs: reconnectTimeoutMs,
      stallMs: stallTimeoutMs,
      onLost: () => {
        this.#kept?.end(); // what was under way is not told again
        redial(link, () => this.#dial((again, received) => link.join(again, received)));
      },
      onClose: (error) =>
        this.#fail(error ?? new GodwitError('peer-closed', 'a data connection was closed')),
    });
    return link;
  }

  #hear({ kind, message, payload }: Received): void {
    if (kind !== 'KeptHashes' || this.#kept === undefined)
      throw new GodwitError('bad-kind', `${kind} on an open data connection`);
    this.#encoder.kept(this.#kept.take(message.chunk, payload));
  }

  /** Waits for what the receiver has kept of a chunk that goes for the first time, unless the guest stands. */
  async #keptKnown(round: number, chunk: number): Promise<void> {
    if (this.#kept === undefined || round > 1 || this.#urgent) return;
    const since = performance.now();
    await this.#kept.known(chunk);
    this.#sender.waited(performance.now() - since, false);
  }

  /** The connection is thought to be dead: tries another one. */
  suspect(error: GodwitError): void {
    this.#link?.drop(error);
  }

  /** Opens the lane on a connection to the receiver's twin, which has received so many batches. */
  #dial(take: (lane: Connection, received: number) => void): Promise<void> {
    return dialLane({ ...this.#data, signal: this.#over.signal }, 0, take);
  }

  #fail(error: GodwitError): void {
    if (this.#over.signal.aborted) return;
    this.#window.fail(error);
    this.#state.fail(error);
    this.#onFailure(error);
  }

  /** One pass over the lane's chunks of the set; true when it was interrupted. */
  async round(round: number, set: PageSet): Promise<boolean> {
    const { lane, lanes } = this.#data;
    let cutShort = false;
    this.#roundSent = Promise.withResolvers();
    this.#sender.beginInterval(); // the time between rounds is nobody's cost
    for (let chunk = lane; chunk < this.#layout.chunks; chunk += lanes) {
      if (!set.hasChunk(chunk)) continue;
      if (Atomics.load(this.#orders, ORDERS.interrupted) >= round) {
        cutShort = true;
        break;
      }
      const slot = await this.#sender.blocked(() => this.#window.take());
      await this.#keptKnown(round, chunk);
      await this.#turn();
      slot.bytes ??= Buffer.allocUnsafeSlow(CHUNK_SIZE);
      const offsets = this.#read(chunk, set, slot.bytes);
      set.clearChunk(chunk);
      await this.#sender.send({ round, chunk, offsets, pages: slot.bytes }, slot);
    }
    await this.#sender.allSent();
    this.#roundSent.resolve();
    await this.#window.drained();
    return cutShort;
  }

  /** Sends what comes through the ring, as long as the migration lives. */
  async #pump(ring: ChunkRingReader): Promise<never> {
    for (;;) {
      const slot = await this.#sender.blocked(() => this.#window.take());
      const taken = await this.#pushed(ring);
      await this.#keptKnown(taken.round, taken.chunk);
      await this.#turn();
      await this.#sender.send(taken, slot);
    }
  }

  /**
   * The next chunk of the ring. The ring's slots are those of the window: with all of them on their way, or all
   * but the one that is being filled, the hypervisor waits for the link, and so do we. Else its time is
   * nobody's cost.
   */
  async #pushed(ring: ChunkRingReader): Promise<RingChunk> {
    const since = performance.now();
    const linkIsFull = this.#window.outstanding >= this.#data.window - 1;
    const taken = await ring.take();
    const ms = performance.now() - since;
    this.#sender.waited(ms, linkIsFull);
    return taken;
  }

  async settled(chunks: number): Promise<undefined> {
    await this.#window.settled(chunks);
  }

  /** The lane's share of the device state, behind its pages. */
  state(): Promise<bigint> {
    return this.#state.send(this.#link!, () => this.#roundSent.promise);
  }

  digest(): bigint {
    return this.#table.digest(this.#hash);
  }

  /** One chunk each; sockets and the other tasks of the thread come in between. */
  #turn(): Promise<void> {
    return turns.next(this.#data.migration, this.#urgent);
  }

  get #urgent(): boolean {
    return Atomics.load(this.#orders, ORDERS.urgent) !== 0;
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

  #acknowledge(sequence: number, busy: number): void {
    this.#counters.add('ackedContentBytes', this.#window.acknowledge(sequence));
    this.#ring?.free(this.#window.acknowledged);
    this.#state.acknowledge(sequence);
    this.#sender.acknowledged(sequence, busy / 1000);
  }
}

export const begin: Begin<SendLaneData, SendRequests> = (data, fail) => {
  const lane = new SendLane(data, fail);
  const { pfnEnd } = new GuestLayout(data.regions);
  return {
    handlers: {
      open: async () => {
        await lane.open();
        return undefined;
      },
      round: ({ round, set }) => lane.round(round, new PageSet(pfnEnd, set)),
      settled: (chunks) => lane.settled(chunks),
      state: () => lane.state(),
      digest: () => lane.digest(),
      suspect: (reason) => {
        lane.suspect(new GodwitError('peer-silent', reason));
        return undefined;
      },
    },
    close: () => lane.close(),
  };
};
