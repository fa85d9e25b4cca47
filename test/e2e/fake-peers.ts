import { randomBytes } from 'node:crypto';
import net from 'node:net';
import { PAGE_SIZE } from '../../lib/memory/guest-layout.ts';
import { PageHash } from '../../lib/pages/hash.ts';
import { connectTo } from '../../lib/wire/connect.ts';
import type { Connection, Received } from '../../lib/wire/connection.ts';
import { helloMessage } from '../../lib/wire/handshake.ts';
import type { Accept, PageBatch } from '../../lib/wire/messages.ts';
import { sendTerms } from '../../lib/wire/terms.ts';

/** Listens, and does with every connection what it is told. */
export async function fakeReceiver(onConnection: (socket: net.Socket) => void) {
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    target: `127.0.0.1:${(server.address() as net.AddressInfo).port}`,
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

export const PAGES = 512;
export const hash = new PageHash(42n);

/** A sender by hand: says what a test tells it, and hears how the receiver ends it. */
export class FakeSender {
  readonly id = randomBytes(8).toString('hex');
  control!: Connection;
  data!: Connection;
  accept!: Accept;
  /** The code with which the receiver ended either connection. */
  readonly refusal: Promise<string>;
  readonly #refused = Promise.withResolvers<string>();
  #waiting = new Map<string, (message: unknown) => void>();

  constructor() {
    this.refusal = this.#refused.promise;
  }

  /** Up to Accept, with one lane opened. */
  async open(port: number): Promise<void> {
    this.control = await this.#connect(port, 'control');
    const welcome = this.#next('Welcome');
    this.control.send('Hello', helloMessage(sendTerms(1)));
    await welcome;
    const accepted = this.#next('Accept');
    this.control.send('GuestOffer', {
      migration: this.id,
      epoch: 1,
      guest: `fake-${this.id}`, // its copy may be there for a moment after the test
      hypervisor: 'simulated',
      deviceModel: 'godwit-sim-2,vcpus=1',
      pageSize: PAGE_SIZE,
      regions: [{ name: 'ram', firstPfn: 0, pages: PAGES }],
      hashSeed: 42n,
      keptSecret: new Uint8Array(0),
      verify: false,
    });
    this.accept = (await accepted) as Accept;
    this.data = await this.#connect(this.accept.dataPorts[0]!, 'data');
    const ready = this.#next('LaneReady');
    this.data.send('LaneOpen', {
      migration: this.id,
      lane: 0,
      secret: this.accept.secret,
      received: 0,
    });
    await ready;
  }

  beginRound(): void {
    this.control.send('RoundBegin', { round: 1, stopAndCopy: false, dirtyPages: PAGES });
    this.control.send('DirtyList', { round: 1, firstPfn: 0, gapRun: [0, PAGES] });
  }

  /** A batch of one page; `change` makes it wrong. */
  batch(page: Buffer, change: Partial<PageBatch> = {}, payload: Buffer = page): void {
    const hashes = Buffer.alloc(8);
    hashes.writeBigUInt64LE(hash.of(page));
    this.data.send(
      'PageBatch',
      {
        round: 1,
        chunk: 0,
        offsetDelta: [0],
        encodings: Uint8Array.of(1),
        hashes,
        copyOf: [],
        rawCompressed: false,
        rawLength: payload.length,
        deltaLength: 0,
        ...change,
      },
      [payload],
    );
  }

  close(): void {
    this.control?.close();
    this.data?.close();
  }

  #next(kind: string): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#waiting.set(kind, resolve);
      this.refusal.then((code) => reject(new Error(`refused: ${code}`)));
    });
  }

  #connect(port: number, connection: 'control' | 'data'): Promise<Connection> {
    return connectTo(
      {
        host: '127.0.0.1',
        port,
        timeoutMs: 5000,
        security: { credentials: undefined, insecure: false },
      },
      {
        side: 'sender',
        connection,
        onMessage: ({ kind, message }: Received) => this.#waiting.get(kind)?.(message),
        onClose: (error) => {
          // The data connection only closes; the reason comes on the control connection.
          if (error && (error.fromPeer || connection === 'control'))
            this.#refused.resolve(error.code);
        },
      },
    );
  }
}
