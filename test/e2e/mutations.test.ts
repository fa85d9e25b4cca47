import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { CHUNK_PAGES, PAGE_SIZE } from '../../lib/memory/guest-layout.ts';
import { PageHash } from '../../lib/pages/hash.ts';
import { stateDigest } from '../../lib/pages/state-digest.ts';
import { decodeBody, encodeBody } from '../../lib/wire/codec.ts';
import { frameHead, HEADER_SIZE, readHeader } from '../../lib/wire/frame.ts';
import { helloMessage } from '../../lib/wire/handshake.ts';
import { type KindName, kindOf } from '../../lib/wire/kinds.ts';
import type { Accept, Messages } from '../../lib/wire/messages.ts';
import { sendTerms } from '../../lib/wire/terms.ts';
import { Hosts, until } from './hosts.ts';

/*
 * A whole migration as a sender says it, one frame of it mutated, against a real agent-recv: whatever
 * comes, the daemon lives, keeps nothing of it and takes the next guest.
 */

const PAGES = 512;
const SEED = 42n;
/** What the conversation has when nothing is wrong with it. */
const FRAMES = 13;
/** What one conversation may cost the daemon, times their number, would be far above this. */
const RSS_GROWTH = 96 * 2 ** 20;
const RUNS = 60;
/** An address that has failed too often is heard again after this time. */
const FORGIVEN_MS = 3000;

/** A mutation of one frame: its body or payload changed and sealed again, or its bytes on the wire. */
interface Mutation {
  readonly frame: number;
  readonly how: 'body' | 'payload' | 'wire' | 'twice' | 'left out' | 'cut off';
  readonly at: number;
  readonly xor: number;
}

const mutations = fc.record({
  frame: fc.nat(FRAMES - 1),
  how: fc.constantFrom<Mutation['how']>('body', 'payload', 'wire', 'twice', 'left out', 'cut off'),
  at: fc.nat(5000),
  xor: fc.integer({ min: 1, max: 255 }),
});

let hosts: Hosts;
let sender: MutatedSender | undefined;
beforeAll(async () => {
  const quick = ['--peer-timeout', '10s', '--reconnect-timeout', '200ms'];
  hosts = await Hosts.start({ recv: quick });
  await hosts.boot();
});
afterEach(({ task }) => {
  sender?.close();
  if (task.result?.state === 'fail') process.stderr.write(hosts.recv.log);
});
afterAll(async () => {
  await sleep(FORGIVEN_MS);
  try {
    const { exit, message } = await hosts.migrate('--max-suspend-time', '20s');
    expect(exit, `${message}\n${hosts.recv.log}${hosts.send.log}`).toBe(0);
    await hosts.mustRunAt('destination');
  } finally {
    await hosts.end();
  }
});

test('no mutation of a conversation harms the receiver', async () => {
  const talk = async (mutation: Mutation | undefined) => {
    sender = new MutatedSender(mutation);
    await sender.talk(hosts.port);
    sender.close();
    await hosts.mustBeGoneFrom('destination', 'fake');
    hosts.mustLive();
  };
  // Nothing is wrong with it up to its end; and what is allocated once is then there.
  await talk(undefined);
  await until(() => hosts.recv.log.includes('differs from the sender'), 'it went to its end');
  const before = rss(hosts.recv.process.pid!);
  await fc.assert(fc.asyncProperty(mutations, talk), { numRuns: RUNS, endOnFailure: true });
  expect(rss(hosts.recv.process.pid!) - before).toBeLessThan(RSS_GROWTH);
  // Logged, but not at the rate at which it comes.
  expect(hosts.recv.log.split('\n').length).toBeLessThan(RUNS * 8);
}, 240_000);

function rss(pid: number): number {
  const [, kilobytes] = /VmRSS:\s+(\d+) kB/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))!;
  return Number(kilobytes) * 1024;
}

/** Says its part whatever the receiver answers, up to Digest. */
class MutatedSender {
  readonly #mutation: Mutation | undefined;
  #sockets: net.Socket[] = [];
  #frame = 0;

  constructor(mutation: Mutation | undefined) {
    this.#mutation = mutation;
  }

  async talk(port: number): Promise<void> {
    const hash = new PageHash(SEED);
    const page = Buffer.alloc(PAGE_SIZE, 'godwit');
    const state = randomBytes(64);
    const migration = randomBytes(8).toString('hex');
    const control = this.#connect(port);
    this.#say(control, 'Hello', helloMessage(sendTerms(1)));
    await control.heard('Welcome');
    this.#say(control, 'GuestOffer', {
      ...{ migration, epoch: 1, guest: 'fake', hypervisor: 'simulated' },
      ...{ deviceModel: 'godwit-sim-2,vcpus=1', pageSize: PAGE_SIZE, hashSeed: SEED },
      ...{ regions: [{ name: 'ram', firstPfn: 0, pages: PAGES }], verify: true },
      keptSecret: new Uint8Array(0),
    });
    const accept = (await control.heard('Accept')) as Accept | undefined;
    if (!accept) return;
    const data = this.#connect(accept.dataPorts[0]!);
    this.#say(data, 'LaneOpen', { migration, lane: 0, secret: accept.secret, received: 0 });
    await data.heard('LaneReady');
    this.#say(control, 'RoundBegin', { round: 1, stopAndCopy: false, dirtyPages: PAGES });
    this.#say(control, 'DirtyList', { round: 1, firstPfn: 0, gapRun: [0, PAGES] });
    const zero = hash.of(Buffer.alloc(PAGE_SIZE));
    for (const chunk of [0, 1]) {
      const hashes = Buffer.alloc(8 * CHUNK_PAGES);
      for (let i = 0; i < CHUNK_PAGES; i++)
        hashes.writeBigUInt64LE(i === 0 ? hash.of(page) : zero, i * 8);
      const offsetDelta = Array.from({ length: CHUNK_PAGES }, (_, i) => Math.min(i, 1));
      const encodings = Uint8Array.from(offsetDelta, (_, i) => (i === 0 ? 1 : 0));
      const batch = { round: 1, chunk, offsetDelta, encodings, hashes, copyOf: [] };
      const raw = { rawCompressed: false, rawLength: PAGE_SIZE, deltaLength: 0 };
      this.#say(data, 'PageBatch', { ...batch, ...raw }, page);
    }
    await data.acknowledged(2);
    this.#say(control, 'RoundEnd', { round: 1, cutShort: false });
    this.#say(control, 'Suspend', { limitMs: 0, runState: 'running' });
    this.#say(control, 'RoundBegin', { round: 2, stopAndCopy: true, dirtyPages: 0 });
    this.#say(control, 'RoundEnd', { round: 2, cutShort: false });
    const part = hash.of(state);
    this.#say(data, 'StatePart', { offset: 0, hash: part }, state);
    this.#say(control, 'DeviceState', { bytes: 64, lane: [stateDigest(hash, 0n, part)] });
    this.#say(control, 'Digest', { lane: [1n] });
    await control.ends();
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #say<K extends KindName>(
    to: Conversation,
    kind: K,
    message: Messages[K],
    payload: Buffer = Buffer.alloc(0),
  ): void {
    const { frame, how, at, xor } = this.#mutation ?? { frame: -1, how: 'wire', at: 0, xor: 0 };
    const hit = this.#frame++ === frame;
    let body = Buffer.from(encodeBody(kind, message));
    if (hit && how === 'body') body = flipped(body, at, xor);
    const bulk = hit && how === 'payload' ? flipped(payload, at, xor) : payload;
    const sequence = kindOf(kind).numbered ? to.next() : 0;
    let bytes = Buffer.concat([frameHead(kindOf(kind), sequence, body, bulk.length), bulk]);
    if (hit && how === 'wire') bytes = flipped(bytes, at, xor);
    if (hit && how === 'left out') return;
    to.socket.write(hit && how === 'cut off' ? bytes.subarray(0, at % bytes.length) : bytes);
    if (hit && how === 'twice') to.socket.write(bytes);
  }

  #connect(port: number): Conversation {
    // A receiver that waits for what was taken out is left alone after a while.
    const patienceMs = this.#mutation === undefined ? 30_000 : 500;
    const conversation = new Conversation(net.connect(port, '127.0.0.1'), patienceMs);
    this.#sockets.push(conversation.socket);
    return conversation;
  }
}

/** One connection: what is heard on it, and how many frames were numbered. */
class Conversation {
  readonly socket: net.Socket;
  readonly #patienceMs: number;
  #sequence = 0;
  #bytes: Buffer = Buffer.alloc(0);
  #open = true;

  constructor(socket: net.Socket, patienceMs: number) {
    this.socket = socket;
    this.#patienceMs = patienceMs;
    socket.on('error', () => {});
    socket.on('data', (bytes: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, bytes]);
    });
    socket.on('close', () => {
      this.#open = false;
    });
  }

  next(): number {
    return this.#sequence++;
  }

  /** The next message of that kind; undefined when the connection ends before, or patience does. */
  async heard(kind: KindName): Promise<unknown> {
    let found: unknown;
    await this.#wait(() => {
      found = this.#take(kind);
      return found !== undefined;
    });
    return found;
  }

  /** Until the receiver has closed it, or patience ends. */
  ends(): Promise<void> {
    return this.#wait(() => false);
  }

  async #wait(happened: () => boolean): Promise<void> {
    const end = performance.now() + this.#patienceMs;
    while (!happened() && this.#open && performance.now() < end) await sleep(5);
  }

  /** Resolves when the receiver has dealt with that many numbered frames, or has closed. */
  async acknowledged(frames: number): Promise<void> {
    for (let seen = 0; seen < frames; seen++) if (!(await this.heard('Ack'))) return;
  }

  #take(kind: KindName): unknown {
    while (this.#bytes.length >= HEADER_SIZE) {
      const header = readHeader(this.#bytes);
      const end = HEADER_SIZE + header.bodyLength;
      if (this.#bytes.length < end) return undefined;
      const body = this.#bytes.subarray(HEADER_SIZE, end);
      this.#bytes = this.#bytes.subarray(end);
      if (header.kind?.name === kind) return decodeBody(kind, body);
    }
    return undefined;
  }
}

function flipped(bytes: Buffer, at: number, xor: number): Buffer<ArrayBuffer> {
  const copy = Buffer.from(bytes);
  if (copy.length > 0) copy[at % copy.length]! ^= xor;
  return copy;
}
