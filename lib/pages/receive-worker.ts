import { timingSafeEqual } from 'node:crypto';
import net from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import { GodwitError } from '../errors.ts';
import { CHUNK_PAGES, CHUNK_SIZE, GuestLayout, PAGE_SIZE } from '../memory/guest-layout.ts';
import { GuestMemory } from '../memory/guest-memory.ts';
import { PageSet } from '../memory/page-set.ts';
import { Channel, type Received } from '../wire/channel.ts';
import { Link } from '../wire/link.ts';
import type { ChannelOpen } from '../wire/messages.ts';
import { fingerprintOf, secureServer } from '../wire/tls.ts';
import { BatchDecoder } from './batch-decoder.ts';
import { Counters } from './counters.ts';
import { ENCODING_NAMES } from './encoding.ts';
import { PageHash } from './hash.ts';
import { HashTable } from './hash-table.ts';
import type { ReceiveRequests, ReceiveWorkerData } from './receive-protocol.ts';
import { RoundTags } from './round-tags.ts';
import { serveRequests } from './worker-link.ts';

/** Time that a connection gets to say which channel it is. */
const OPEN_TIMEOUT_MS = 5000;
/** Connections that may be in that state at once; more are turned away. */
const MAX_STRANGERS = 4;
/** Chunks read to measure the verify rate: a millisecond or two. */
const RATE_CHUNKS = 4;

/**
 * A receiver worker: owns the data connection of one channel. It decodes, verifies, writes guest
 * memory and acknowledges; the main thread hears only of failures.
 */
class ReceiveWorker {
  readonly #data: ReceiveWorkerData;
  readonly #layout: GuestLayout;
  readonly #memory: GuestMemory;
  readonly #hash: PageHash;
  readonly #table: HashTable;
  readonly #decoder: BatchDecoder;
  readonly #counters: Counters;
  readonly #fail: (error: GodwitError) => void;
  #link: Link | undefined;
  #strangers = 0;

  constructor(data: ReceiveWorkerData, onFailure: (error: GodwitError) => void) {
    this.#data = data;
    this.#fail = onFailure;
    this.#layout = new GuestLayout(data.regions);
    this.#memory = new GuestMemory(data.memory, 'read-write');
    this.#hash = new PageHash(data.hashSeed);
    this.#table = new HashTable(this.#layout, data.channel, data.channels);
    this.#counters = new Counters(data.counters);
    this.#decoder = new BatchDecoder({
      layout: this.#layout,
      channel: data.channel,
      channels: data.channels,
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

  async listen(): Promise<number> {
    const { listenHost, listenPorts } = this.#data;
    for (const port of listenPorts) {
      const server = this.#newServer();
      const bound = await tryListen(server, listenHost, port);
      if (bound === undefined) continue;
      return bound;
    }
    throw new GodwitError(
      'listen-failed',
      `no free data port on ${listenHost}: all of ${listenPorts[0]} to ${listenPorts.at(-1)} are taken`,
    );
  }

  #newServer(): net.Server {
    const { credentials, senderFingerprint } = this.#data;
    if (credentials === undefined) return net.createServer((socket) => this.#admit(socket));
    const server = net.createServer();
    secureServer(server, {
      credentials,
      refuses: (certificate) =>
        fingerprintOf(certificate) === senderFingerprint
          ? undefined
          : 'is not that of the control connection',
      onConnection: (socket, refusal) => this.#admit(socket, refusal),
      onFailure: (_, socket) => socket.destroy(),
    });
    return server;
  }

  digest(): bigint {
    return this.#table.digest(this.#hash);
  }

  /** Every page of the channel as memory has it now, against the hash it arrived with. */
  verify(): number | undefined {
    const { channel, channels } = this.#data;
    const bytes = Buffer.allocUnsafeSlow(CHUNK_SIZE);
    for (let chunk = channel; chunk < this.#layout.chunks; chunk += channels) {
      const region = this.#layout.regionOfChunk(chunk);
      if (!region) continue;
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
    const { channel, channels } = this.#data;
    const bytes = Buffer.allocUnsafeSlow(CHUNK_SIZE);
    const started = performance.now();
    let read = 0;
    for (let i = 0; i < RATE_CHUNKS; i++) {
      const firstPfn = (channel + i * channels) * CHUNK_PAGES;
      const pages = CHUNK_PAGES;
      if (!this.#layout.has(firstPfn + pages - 1)) break;
      this.#memory.read(firstPfn, pages, bytes, 0);
      for (let at = 0; at < CHUNK_SIZE; at += PAGE_SIZE)
        this.#hash.of(bytes.subarray(at, at + PAGE_SIZE));
      read += CHUNK_SIZE;
    }
    return read / ((performance.now() - started) / 1000);
  }

  /** A connection is a stranger until it names this channel and knows the secret. */
  #admit(socket: net.Socket, refusal?: GodwitError): void {
    if (this.#strangers >= MAX_STRANGERS) {
      socket.destroy();
      return;
    }
    this.#strangers++;
    const settle = () => {
      clearTimeout(timer);
      this.#strangers--;
    };
    const timer = setTimeout(
      () => channel.destroy(refused('it did not open a channel in time')),
      OPEN_TIMEOUT_MS,
    );
    const channel = new Channel(socket, {
      side: 'receiver',
      connection: 'data',
      onMessage: (received) => {
        if (received.kind !== 'ChannelOpen') throw refused('ChannelOpen must come first');
        this.#checkOpen(received.message);
        settle();
        this.#take(channel);
      },
      onClose: settle,
    });
    if (refusal) channel.destroy(refusal);
  }

  /** The sender's connection, or the one that takes the place of a lost one. */
  #take(channel: Channel): void {
    const received = this.#link?.received ?? 0;
    channel.send('ChannelReady', { channel: this.#data.channel, received });
    if (this.#link) return this.#link.join(channel, 0);
    this.#link = new Link(channel, {
      onMessage: (message) => this.#receive(message),
      mayRejoin: () => true, // as long as the migration lives, which others decide
      onLost: () => {},
      onClose: (error) =>
        this.#fail(error ?? new GodwitError('peer-closed', 'a data connection was closed')),
    });
  }

  #checkOpen({ migration, channel, secret }: ChannelOpen): void {
    const own = this.#data;
    if (
      migration !== own.migration ||
      channel !== own.channel ||
      secret.length !== own.secret.length ||
      !timingSafeEqual(secret, own.secret)
    )
      throw refused('it does not belong to the migration that is expected here');
  }

  #receive(received: Received): void {
    if (received.kind !== 'PageBatch')
      throw new GodwitError('bad-kind', `${received.kind} on an open data connection`);
    const { message, payload } = received;
    const pages = this.#decoder.decode(message, payload);
    this.#counters.add('pages', pages);
    this.#counters.add('wireBytes', payload.length);
    for (const encoding of message.encodings) this.#counters.add(ENCODING_NAMES[encoding]!, 1);
  }
}

function refused(why: string): GodwitError {
  return new GodwitError('channel-refused', `data connection refused: ${why}`);
}

/** The bound port, or undefined when the port is taken. */
function tryListen(server: net.Server, host: string, port: number): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      if (cause.code === 'EADDRINUSE') resolve(undefined);
      else
        reject(
          new GodwitError('listen-failed', `cannot listen on ${host}: ${cause.code}`, { cause }),
        );
    });
    server.listen(port, host, () => resolve((server.address() as net.AddressInfo).port));
  });
}

const worker = new ReceiveWorker(workerData as ReceiveWorkerData, (error) => fail(error));
const fail = serveRequests<ReceiveRequests>(parentPort, {
  listen: () => worker.listen(),
  digest: () => worker.digest(),
  verify: () => worker.verify(),
  verifyRate: () => worker.verifyRate(),
});
