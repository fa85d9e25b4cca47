import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import { GodwitError } from '../../lib/errors.ts';
import { encodeBody } from '../../lib/wire/codec.ts';
import { connectTo } from '../../lib/wire/connect.ts';
import { Connection } from '../../lib/wire/connection.ts';
import { frameOf } from './arbitraries.ts';
import { readFields, readFrames } from './naive-reader.ts';
import { SocketPair, until, watchedLane, watching } from './sockets.ts';

const SEAL = new Uint8Array([1, 2, 3]);

const pairs: SocketPair[] = [];
afterEach(() => {
  for (const pair of pairs.splice(0)) pair.dispose();
});

async function sockets(): Promise<SocketPair> {
  const pair = await SocketPair.open();
  pairs.push(pair);
  return pair;
}

/** A sender's connection, and the receiver's connection at its other end. */
async function connections(connection: 'control' | 'data') {
  const { near, far } = await sockets();
  const sender = watchedLane(near, { connection, side: 'sender' });
  const receiver = watchedLane(far, { connection, side: 'receiver' });
  return { sender, receiver };
}

/** A receiver's control connection, and the bare socket of a peer that may do anything. */
async function bare(keepAlive?: { pingMs: number; silenceMs: number }) {
  const { near: peer, far } = await sockets();
  const options = { connection: 'control', side: 'receiver' } as const;
  const connection = watchedLane(far, keepAlive ? { ...options, keepAlive } : options);
  return { peer, connection };
}

/** Everything that a socket hears until its peer ends. */
async function hearAll(socket: Socket): Promise<Buffer> {
  const heard: Buffer[] = [];
  for await (const piece of socket) heard.push(piece as Buffer);
  return Buffer.concat(heard);
}

/** Frames of 64 KiB, 64 MiB in all: no kernel takes that on behalf of a peer that does not read. */
const TOO_MUCH = 1024;
const LARGE = { epoch: 1, seal: Buffer.alloc(64 * 1024 - 16) };

function sendTooMuch(connection: Connection): void {
  for (let i = 0; i < TOO_MUCH; i++) connection.send('Commit', LARGE);
}

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');
const text = (field: unknown) => Buffer.from(field as Uint8Array).toString();

describe('Connection', () => {
  it('carries messages both ways, numbered from 0', async () => {
    const { sender, receiver } = await connections('control');
    expect(sender.connection.send('Suspend', { limitMs: 300, runState: 'running' })).toBe(0);
    expect(sender.connection.send('Commit', { epoch: 4, seal: SEAL })).toBe(1);
    expect(receiver.connection.send('Prepared', { epoch: 4, verifyMs: 0.5, loadMs: 0 })).toBe(0);
    await until(() => receiver.received.length === 2, 'two messages');
    await until(() => sender.received.length === 1, 'one message');
    expect(receiver.received).toMatchObject([
      { kind: 'Suspend', sequence: 0, message: { limitMs: 300, runState: 'running' } },
      { kind: 'Commit', sequence: 1, message: { epoch: 4, seal: SEAL } },
    ]);
    expect(sender.received).toMatchObject([
      { kind: 'Prepared', sequence: 0, message: { epoch: 4, verifyMs: 0.5, loadMs: 0 } },
    ]);
  });

  it('carries payloads of several parts, also from shared memory, and acknowledges them', async () => {
    const { sender, receiver } = await connections('data');
    const shared = Buffer.from(new SharedArrayBuffer(1024 * 1024)).fill('shared ');
    const batch = {
      round: 1,
      chunk: 9,
      offsetDelta: [0],
      encodings: hex('01'),
      hashes: Buffer.alloc(8),
      copyOf: [],
      rawCompressed: false,
      rawLength: shared.length,
      deltaLength: 3,
    };
    const acked = Promise.withResolvers<number>();
    sender.connection.serve({
      onMessage: () => {},
      onAck: (upTo) => acked.resolve(upTo),
      onClose: () => {},
    });
    sender.connection.send('LaneOpen', {
      migration: 'm',
      lane: 0,
      secret: Buffer.alloc(16),
      received: 0,
    });
    const sequence = sender.connection.send('PageBatch', batch, [shared, hex(''), hex('aabbcc')]);
    await until(() => receiver.received.length === 2, 'the batch');
    const { payload } = receiver.received[1]!;
    expect(payload.equals(Buffer.concat([shared, hex('aabbcc')]))).toBe(true);
    expect(sender.connection.bytesSent).toBeGreaterThan(payload.length);
    expect(await acked.promise).toBe(sequence);
  });

  it('says how busy it is where it acknowledges, if that is wanted', async () => {
    const { near, far } = await sockets();
    const { connection } = watchedLane(near, { connection: 'data', side: 'receiver' });
    const heard = hearAll(far);
    const serve = (busy?: () => number) =>
      connection.serve({ onMessage: () => {}, onClose: () => {}, ...(busy && { busy }) });
    serve();
    far.write(frameOf('Ballast', 0));
    await until(() => connection.received === 1, 'the first');
    serve(() => 970);
    far.write(frameOf('Ballast', 1));
    await until(() => connection.received === 2, 'the second');
    connection.close();
    const frames = readFrames(await heard);
    expect(frames.map(({ body }) => readFields(body))).toEqual([
      readFields(hex('')),
      readFields(hex('08ca07')),
    ]);
    const acked: number[][] = [];
    const other = await connections('data');
    other.sender.connection.serve({
      onMessage: () => {},
      onAck: (sequence, busy) => acked.push([sequence, busy]),
      onClose: () => {},
    });
    other.receiver.connection.serve({ onMessage: () => {}, busy: () => 42, onClose: () => {} });
    other.sender.connection.send('Ballast', {});
    await until(() => acked.length === 1, 'the acknowledgement');
    expect(acked).toEqual([[0, 42]]);
  });

  it('does not believe an acknowledgement of what it has not sent', async () => {
    const { peer, connection } = await bare();
    peer.write(frameOf('Ack', 1));
    expect(await connection.closed).toMatchObject({ code: 'frame-out-of-order', fromPeer: false });
  });

  it('writes what the naive reader reads', async () => {
    const { near, far } = await sockets();
    const { connection } = watchedLane(near, { connection: 'data', side: 'sender' });
    connection.send('StatePart', { offset: 1, hash: 7n }, [hex('0102'), hex('03')]);
    connection.send('Abort', { code: 'cancelled', text: 'by hand' });
    connection.close();
    const frames = readFrames(await hearAll(far));
    expect(frames).toMatchObject([
      { kind: 37, sequence: 0n },
      { kind: 18, sequence: 0n },
    ]);
    expect(Buffer.from(frames[0]!.payload)).toEqual(hex('010203'));
    expect(readFields(frames[0]!.body)).toEqual(
      new Map([
        [1, [1n]],
        [2, [7n]],
      ]),
    );
  });

  it('goes on after a message that cannot be sent', async () => {
    const { sender, receiver } = await connections('control');
    expect(() => sender.connection.send('Suspend', { limitMs: -1, runState: 'running' })).toThrow(
      expect.objectContaining({ code: 'bad-message' }),
    );
    const long = { code: 'x', text: 'x'.repeat(5000) };
    expect(() => sender.connection.send('Abort', long)).toThrow(
      expect.objectContaining({ code: 'frame-too-large' }),
    );
    sender.connection.send('Suspend', { limitMs: 1, runState: 'running' });
    await until(() => receiver.received.length === 1, 'the good message');
    expect(receiver.closes).toEqual([]);
  });

  it('holds the sender back until the peer reads', async () => {
    const { near, far } = await sockets();
    const { connection } = watchedLane(near, { connection: 'control', side: 'sender' });
    far.pause();
    sendTooMuch(connection);
    let ready = false;
    const waiting = connection.ready().then(() => {
      ready = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(ready).toBe(false);
    const receiver = watchedLane(far, { connection: 'control', side: 'receiver' });
    far.resume();
    await waiting;
    await until(() => receiver.received.length === TOO_MUCH, 'everything arrives');
    await connection.ready();
  });

  it('tells those who wait for room why it ended', async () => {
    const { near } = await sockets();
    const { connection } = watchedLane(near, { connection: 'control', side: 'sender' });
    sendTooMuch(connection);
    const waiting = connection.ready();
    const reason = new GodwitError('cancelled', 'enough');
    connection.destroy(reason);
    await expect(waiting).rejects.toBe(reason);
    await expect(connection.ready()).rejects.toBe(reason);
    expect(() => connection.send('Commit', { epoch: 1, seal: SEAL })).toThrow(reason);
  });
});

describe('the end of a connection', () => {
  it('is silent on the side that closes, and brings out what was sent', async () => {
    const { sender, receiver } = await connections('control');
    const before = receiver.received;
    sender.connection.send('Released', { epoch: 1 });
    sender.connection.close();
    sender.connection.close();
    expect(await sender.closed).toBeUndefined();
    expect(await receiver.closed).toMatchObject({ code: 'peer-closed', fromPeer: false });
    expect(before).toMatchObject([{ kind: 'Released' }]);
    expect([sender.closes.length, receiver.closes.length]).toEqual([1, 1]);
    expect(() => sender.connection.send('Suspend', { limitMs: 1, runState: 'running' })).toThrow(
      /closed by this side/,
    );
  });

  it('tells the peer why: Abort', async () => {
    const { sender, receiver } = await connections('control');
    const reason = new GodwitError('suspension-limit', `missed by ${'x'.repeat(5000)}\u0007`);
    sender.connection.destroy(reason);
    sender.connection.destroy(new GodwitError('internal', 'second'));
    expect(sender.closes).toEqual([reason]);
    const heard = await receiver.closed;
    expect(heard).toMatchObject({ code: 'suspension-limit', fromPeer: true });
    expect(heard!.message).toMatch(/^the peer reports: missed by x{900}/);
    expect([sender.closes.length, receiver.closes.length]).toEqual([1, 1]);
  });

  it('does not let an Abort write to the terminal, or carry no code', async () => {
    const first = await bare();
    const abort = (code: string) => encodeBody('Abort', { code, text: 'a\u001b[2Jb\n' });
    first.peer.write(frameOf('Abort', 0, abort('cancelled')));
    expect((await first.connection.closed)?.message).toBe('the peer reports: a [2Jb ');
    const second = await bare();
    second.peer.write(frameOf('Abort', 0, abort('No Code\n')));
    expect(await second.connection.closed).toMatchObject({ code: 'bad-message', fromPeer: false });
  });

  it('comes with what a handler throws', async () => {
    const { near, far } = await sockets();
    const sender = watchedLane(near, { connection: 'control', side: 'sender' });
    const { watched, recording } = watching({ connection: 'control', side: 'receiver' });
    new Connection(far, {
      ...recording,
      onMessage: () => {
        throw new GodwitError('round-incomplete', 'pages are missing');
      },
    });
    sender.connection.send('RoundEnd', { round: 1, cutShort: false });
    sender.connection.send('RoundEnd', { round: 2, cutShort: false });
    expect(await watched.closed).toMatchObject({ code: 'round-incomplete' });
    expect(await sender.closed).toMatchObject({ code: 'round-incomplete', fromPeer: true });
    expect(watched.closes).toHaveLength(1);
  });

  it('delivers nothing after the handler has ended it', async () => {
    const { peer, connection } = await bare();
    const { watched, recording } = watching({ connection: 'control', side: 'receiver' });
    const { near, far } = await sockets();
    let calls = 0;
    const ending = new Connection(far, {
      ...recording,
      onMessage: () => {
        calls++;
        ending.close();
      },
    });
    near.write(Buffer.concat([frameOf('Suspend', 0), frameOf('Suspend', 1), hex('00')]));
    expect(await watched.closed).toBeUndefined();
    expect(calls).toBe(1);
    peer.destroy();
    expect(await connection.closed).toMatchObject({ code: 'peer-closed' });
  });

  it.each([
    ['garbage', Buffer.alloc(40, 'HTTP/1.1 '), 'bad-magic'],
    ['a frame for another connection', frameOf('PageBatch', 0), 'bad-kind'],
    ['a body that is no message', frameOf('Commit', 0, hex('08ff')), 'bad-message'],
  ])('follows %s, and says so', async (_, bytes, code) => {
    const { peer, connection } = await bare();
    peer.write(bytes);
    expect(await connection.closed).toMatchObject({ code, fromPeer: false });
    const [abort] = readFrames(await hearAll(peer));
    expect(abort?.kind).toBe(18);
    expect(text(readFields(abort!.body).get(1)?.[0])).toBe(code);
    expect(connection.closes).toHaveLength(1);
  });

  it.each([
    ['at once', hex(''), /without a word/],
    ['after a frame', frameOf('Suspend', 0), /without a word/],
    ['inside a header', frameOf('Suspend', 0).subarray(0, 31), /in the middle of a frame/],
    ['inside a body', frameOf('Commit', 0, hex('0807')).subarray(0, 33), /in the middle/],
  ])('follows a peer that closes %s', async (_, bytes, message) => {
    const { peer, connection } = await bare();
    peer.end(bytes);
    const error = await connection.closed;
    expect(error).toMatchObject({ code: 'peer-closed', message: expect.stringMatching(message) });
  });

  it('follows a reset', async () => {
    const { peer, connection } = await bare();
    peer.resetAndDestroy();
    expect(await connection.closed).toMatchObject({ code: 'peer-closed', fromPeer: false });
    await until(() => connection.closes.length === 1, 'one report');
  });

  it('does not wait for a peer that never reads', async () => {
    const { near } = await sockets();
    const { connection } = watchedLane(near, { connection: 'control', side: 'sender' });
    sendTooMuch(connection);
    connection.destroy(new GodwitError('cancelled', 'enough'));
    await until(() => near.destroyed, 'the socket is gone');
  });
});

describe('keep-alive', () => {
  it('measures the round trip while both live', async () => {
    const { near, far } = await sockets();
    const keepAlive = { pingMs: 10, silenceMs: 20_000 };
    const sender = watchedLane(near, { connection: 'control', side: 'sender', keepAlive });
    const receiver = watchedLane(far, { connection: 'control', side: 'receiver', keepAlive });
    expect(sender.connection.rttMs).toBeUndefined();
    await until(() => sender.connection.rttMs !== undefined, 'a round trip');
    await until(() => receiver.connection.rttMs !== undefined, 'a round trip back');
    expect(sender.connection.rttMs).toBeGreaterThan(0);
    expect([sender.received, receiver.received]).toEqual([[], []]);
    sender.connection.close();
    await receiver.closed;
  });

  it('gives up a silent peer, and tells it', async () => {
    const { peer, connection } = await bare({ pingMs: 10, silenceMs: 100 });
    const heard = hearAll(peer);
    expect(await connection.closed).toMatchObject({ code: 'peer-silent', fromPeer: false });
    const kinds = readFrames(await heard).map(({ kind }) => kind);
    expect(kinds.slice(0, 2)).toEqual([19, 19]);
    expect(kinds.at(-1)).toBe(18);
  });

  it('takes any bytes as a sign of life', async () => {
    const silenceMs = 200;
    const { peer, connection } = await bare({ pingMs: 60_000, silenceMs });
    const frame = frameOf('Suspend', 0);
    const began = performance.now();
    let at = 0;
    let longest = 0;
    // A byte at a time, for twice the limit: only a gap of our own may excuse an end.
    for (let last = began; performance.now() - began < 2 * silenceMs && at < 31; at++) {
      peer.write(frame.subarray(at, at + 1));
      await new Promise((resolve) => setTimeout(resolve, 15));
      longest = Math.max(longest, performance.now() - last);
      last = performance.now();
    }
    if (longest < silenceMs / 2) expect(connection.closes).toEqual([]);
    expect(await connection.closed).toMatchObject({ code: 'peer-silent' });
  });

  it('takes what is heard elsewhere as a sign of life, for a while', async () => {
    const silenceMs = 100;
    const { connection } = await bare({ pingMs: 10, silenceMs });
    const began = performance.now();
    let elsewhere = 0;
    const closed = Promise.withResolvers<GodwitError | undefined>();
    connection.connection.serve({
      onMessage: () => {},
      heardElsewhere: () => elsewhere++,
      onClose: closed.resolve,
    });
    expect(await closed.promise).toMatchObject({ code: 'peer-silent', fromPeer: false });
    expect(performance.now() - began).toBeGreaterThan(5 * silenceMs);
  });

  it('hears what came while this side was stalled', async () => {
    const { peer, connection } = await bare({ pingMs: 60_000, silenceMs: 500 });
    peer.write(frameOf('Suspend', 0));
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 700);
    await until(() => connection.received.length === 1, 'the message');
    await new Promise((resolve) => setImmediate(resolve));
    expect(connection.closes).toEqual([]);
    expect(await connection.closed).toMatchObject({ code: 'peer-silent' });
  });

  it('refuses a Pong to a Ping that it has not sent', async () => {
    const { peer, connection } = await bare({ pingMs: 60_000, silenceMs: 60_000 });
    peer.write(frameOf('Pong', 0, encodeBody('Pong', { cookie: Number.MAX_SAFE_INTEGER })));
    expect(await connection.closed).toMatchObject({ code: 'bad-message' });
  });

  it('answers pings with their cookie', async () => {
    const { peer, connection } = await bare();
    peer.write(frameOf('Ping', 0, encodeBody('Ping', { cookie: 2 ** 40 })));
    const [piece] = (await once(peer, 'data')) as [Buffer];
    const [pong] = readFrames(piece);
    expect(pong).toMatchObject({ kind: 20, sequence: 0n });
    expect(readFields(pong!.body).get(1)).toEqual([2n ** 40n]);
    connection.connection.close();
  });
});

describe('a frame that takes its time on a lane', () => {
  it('is told of while it comes in, and not when nothing does', async () => {
    const { near: peer, far } = await sockets();
    const { connection } = watchedLane(far, { connection: 'data', side: 'receiver' });
    const heard: Buffer[] = [];
    peer.on('data', (piece: Buffer) => heard.push(piece));
    const kinds = () => readFrames(Buffer.concat(heard)).map(({ kind }) => kind);
    connection.send('LaneReady', { lane: 0, received: 0 });
    const frame = frameOf('PageBatch', 0, Buffer.alloc(4096));
    let at = 0;
    while (!kinds().includes(19) && at < 4000) {
      peer.write(frame.subarray(at, ++at));
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    expect(kinds()).toEqual([33, 19]);
    connection.close();
  });

  it('does not make its sender answer', async () => {
    const { near: peer, far } = await sockets();
    const sender = watchedLane(far, { connection: 'data', side: 'sender' });
    peer.write(frameOf('Ping', 0, encodeBody('Ping', { cookie: 0 })));
    peer.write(frameOf('LaneReady', 0, encodeBody('LaneReady', { lane: 0, received: 0 })));
    await until(() => sender.received.length === 1, 'both are heard');
    expect(sender.connection.bytesSent).toBe(0);
    sender.connection.close();
  });
});

/** A port whose queue of connections is full, in a thread too busy to accept any: SYNs are lost. */
async function deafListener() {
  const worker = new Worker(
    `const server = require('node:net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 });
     server.on('listening', () => {
       require('node:worker_threads').parentPort.postMessage(server.address().port);
       Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
     });`,
    { eval: true },
  );
  const [port] = (await once(worker, 'message')) as [number];
  const crowd = Array.from({ length: 8 }, () => connect(port, '127.0.0.1').on('error', () => {}));
  await until(() => crowd.filter(({ connecting }) => !connecting).length > 1, 'the queue fills');
  const stop = async () => {
    for (const socket of crowd) socket.destroy();
    await worker.terminate();
  };
  return { port, stop };
}

const PLAIN = { credentials: undefined, insecure: false };

describe('connectTo', () => {
  const open = (host: string, port: number, timeoutMs = 20_000) => {
    const { watched, recording } = watching({ connection: 'control', side: 'sender' });
    return {
      watched,
      connection: connectTo({ host, port, timeoutMs, security: PLAIN }, recording),
    };
  };

  it('connects to a peer that listens', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const { watched, connection } = open('127.0.0.1', (server.address() as AddressInfo).port);
    const connected = await connection;
    const receiver = watchedLane((await accepted)[0], {
      connection: 'control',
      side: 'receiver',
    });
    receiver.connection.send('Running', { epoch: 1, resumeMs: 2, runState: 'running' });
    await until(() => watched.received.length === 1, 'a message');
    connected.close();
    await receiver.closed;
    server.close();
  });

  it('names a refusal', async () => {
    const here = '127.77.7.7'; // where nobody else listens: the port stays free
    const server = createServer().listen(0, here);
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, 'close');
    await expect(open(here, port).connection).rejects.toMatchObject({
      code: 'connect-refused',
      message: `${here} refuses port ${port}: is the agent running there?`,
    });
  });

  it('gives up a host that does not answer', async () => {
    const deaf = await deafListener();
    await expect(open('127.0.0.1', deaf.port, 200).connection).rejects.toMatchObject({
      code: 'connect-timeout',
      message: `127.0.0.1 port ${deaf.port} did not answer within 200 ms`,
    });
    await deaf.stop();
  });

  it('names a host that does not exist', async () => {
    await expect(open('no-such-host.invalid', 7070).connection).rejects.toMatchObject({
      code: 'host-unknown',
    });
  });
});
