import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { GodwitError } from '../../lib/errors.ts';
import { encodeBody } from '../../lib/wire/codec.ts';
import { Connection } from '../../lib/wire/connection.ts';
import { Link, type LinkOptions } from '../../lib/wire/link.ts';
import { frameOf } from './arbitraries.ts';
import { SocketPair, until } from './sockets.ts';

const SEAL = new Uint8Array([1, 2, 3]);
/** The largest there is, and how many are a MiB. */
const LARGE = { epoch: 1, seal: new Uint8Array(64 * 1024 - 16) };
const A_MIB = 16;

const pairs: SocketPair[] = [];
afterEach(() => {
  for (const pair of pairs.splice(0)) pair.dispose();
});

/** Both ends of a control link over real sockets, and a way to cut and join them. */
class Ends {
  readonly heard = { sender: [] as number[], receiver: [] as number[] };
  readonly closes: (GodwitError | undefined)[] = [];
  sender!: Link;
  receiver!: Link;
  #pair!: SocketPair;
  mayRejoin = true;

  static async open(): Promise<Ends> {
    const ends = new Ends();
    const [near, far] = await ends.#connect();
    ends.sender = ends.#link(near, 'sender');
    ends.receiver = ends.#link(far, 'receiver');
    return ends;
  }

  /** Ends the connection now, wherever its bytes are. */
  async cut(): Promise<void> {
    this.#pair.dispose();
    await until(() => !this.sender.connected && !this.receiver.connected, 'both notice');
  }

  /** As Rejoin and Rejoined do. */
  async join(): Promise<void> {
    const [near, far] = await this.#connect();
    const [sent, got] = [this.sender.received, this.receiver.received];
    this.receiver.join(far, sent);
    this.sender.join(near, got);
  }

  async #connect(): Promise<[Connection, Connection]> {
    this.#pair = await SocketPair.open();
    pairs.push(this.#pair);
    const ignore = { onMessage: () => {}, onClose: () => {} };
    const connection = 'control';
    return [
      new Connection(this.#pair.near, { side: 'sender', connection, ...ignore }),
      new Connection(this.#pair.far, { side: 'receiver', connection, ...ignore }),
    ];
  }

  #link(connection: Connection, side: 'sender' | 'receiver'): Link {
    return new Link(connection, {
      onMessage: ({ message }) => this.heard[side].push((message as { epoch: number }).epoch),
      mayRejoin: () => this.mayRejoin,
      giveUpMs: 60_000,
      stallMs: 60_000,
      onLost: () => {},
      onClose: (error) => this.closes.push(error),
    });
  }
}

describe('a link', () => {
  test('brings every frame once and in order, however often its connection is cut', async () => {
    const step = fc.oneof(
      { weight: 6, arbitrary: fc.constantFrom('send', 'answer') },
      { weight: 2, arbitrary: fc.constantFrom('wait', 'cut', 'join') },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const ends = await Ends.open();
        const sent = { sender: 0, receiver: 0 };
        for (const what of steps) {
          if (what === 'send') ends.sender.send('Commit', { epoch: sent.sender++, seal: SEAL });
          if (what === 'answer')
            ends.receiver.send('Running', {
              epoch: sent.receiver++,
              resumeMs: 0,
              runState: 'running',
            });
          if (what === 'wait') await new Promise(setImmediate);
          if (what === 'cut' && ends.sender.connected) await ends.cut();
          if (what === 'join' && !ends.sender.connected) await ends.join();
        }
        if (!ends.sender.connected) await ends.join();
        const all = (count: number) => Array.from({ length: count }, (_, i) => i);
        await until(() => ends.heard.receiver.length >= sent.sender, 'the receiver has all');
        await until(() => ends.heard.sender.length >= sent.receiver, 'the sender has all');
        expect(ends.heard).toEqual({ receiver: all(sent.sender), sender: all(sent.receiver) });
        expect(ends.closes).toEqual([]);
        ends.sender.close();
        for (const pair of pairs.splice(0)) pair.dispose();
      }),
      { numRuns: 60 },
    );
  });

  test('makes the sender wait while too much is unacknowledged', async () => {
    const ends = await Ends.open();
    await ends.cut();
    for (let i = 0; i < 9 * A_MIB; i++) ends.sender.send('Commit', LARGE);
    let ready = false;
    const waiting = ends.sender.ready().then(() => {
      ready = true;
    });
    await new Promise(setImmediate);
    expect(ready).toBe(false);
    await ends.join();
    await waiting;
  });

  test('ends for good by an Abort, by a broken rule, and when it may not be joined again', async () => {
    const told = await Ends.open();
    told.receiver.destroy(Object.assign(new Error('x'), { code: 'cancelled' }) as GodwitError);
    await until(() => told.closes.length === 2, 'both are told');
    expect(told.closes.map((error) => error?.code)).toEqual(['cancelled', 'cancelled']);

    const alone = await Ends.open();
    alone.mayRejoin = false;
    pairs.at(-1)!.dispose();
    await until(() => alone.closes.length === 2, 'both are told');
    expect(alone.closes.map((error) => error?.code)).toEqual(['peer-closed', 'peer-closed']);
  });

  test('does not join a peer that claims what was never sent', async () => {
    const ends = await Ends.open();
    ends.sender.send('Commit', { epoch: 1, seal: SEAL });
    await ends.cut();
    const pair = await SocketPair.open();
    pairs.push(pair);
    const { near } = pair;
    const connection = new Connection(near, {
      side: 'sender',
      connection: 'control',
      onMessage: () => {},
      onClose: () => {},
    });
    expect(() => ends.sender.join(connection, 2)).toThrow(/has received 2 frames; 0 to 1/);
    connection.close();
  });
});

/** A sender's link, and the bare socket of a peer that may do anything. */
class Alone {
  readonly losses: GodwitError[] = [];
  readonly closes: (GodwitError | undefined)[] = [];
  link!: Link;
  peer!: SocketPair['far'];
  /** Bytes that have reached the peer. */
  heard = 0;
  acked = -1;

  static async open(options: Partial<LinkOptions> = {}, reads = true): Promise<Alone> {
    const alone = new Alone();
    alone.link = new Link(await alone.connect(reads), {
      onMessage: () => {},
      mayRejoin: () => true,
      giveUpMs: 60_000,
      stallMs: 60_000,
      onLost: (error) => alone.losses.push(error),
      onClose: (error) => alone.closes.push(error),
      onAck: (sequence) => {
        alone.acked = sequence;
      },
      ...options,
    });
    return alone;
  }

  async connect(reads = true): Promise<Connection> {
    const pair = await SocketPair.open();
    pairs.push(pair);
    this.peer = pair.far;
    pair.far.on('error', () => {});
    if (reads) pair.far.on('data', ({ length }) => (this.heard += length));
    return new Connection(pair.near, {
      side: 'sender',
      connection: 'control',
      onMessage: () => {},
      onClose: () => {},
    });
  }
}

/** Whether a promise is settled when everything that is due has been done. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  let done = false;
  const note = () => {
    done = true;
  };
  promise.then(note, note);
  for (let i = 0; i < 10; i++) await new Promise(setImmediate);
  return done;
}

const LIST = { round: 1, firstPfn: 0, gapRun: Array.from({ length: 100_000 }, () => 1) };
const PING = encodeBody('Ping', { cookie: 0 });
const LOST = new GodwitError('peer-silent', 'nothing is heard');

describe('what waits for an acknowledgement', () => {
  test('counts as what it holds: a peer that never acknowledges makes the sender wait', async () => {
    const alone = await Alone.open();
    let sent = 0;
    for (; sent < 500; sent++) {
      const ready = alone.link.ready();
      await until(() => alone.heard >= sent * 100_000, 'the peer has it all');
      if (!(await settled(ready))) break;
      alone.link.send('DirtyList', LIST);
    }
    expect(sent * 100_000).toBeGreaterThan(7 << 20);
    expect(sent * 100_000).toBeLessThan(9 << 20);
    const acknowledged = alone.link.ready();
    alone.peer.write(frameOf('Ack', sent - 1));
    await acknowledged;
  });

  test('is refused at once when it cannot be sent, also while there is no connection', async () => {
    const alone = await Alone.open();
    alone.link.drop(LOST);
    const large = { ...LIST, gapRun: Array.from({ length: 400_000 }, () => 2 ** 30) };
    expect(() => alone.link.send('DirtyList', large)).toThrow(/DirtyList frame has a body/);
    expect(() => alone.link.send('Suspend', { limitMs: -1, runState: 'running' })).toThrow(
      /bad Suspend/,
    );
    expect(alone.link.send('Suspend', { limitMs: 1, runState: 'running' })).toBe(0);
  });

  test('nobody is ready while there is no connection, whatever was waited for before', async () => {
    const alone = await Alone.open({}, false);
    for (let i = 0; i < 7 * A_MIB; i++) alone.link.send('Commit', LARGE);
    const ready = alone.link.ready(); // for the socket to drain
    expect(await settled(ready)).toBe(false);
    alone.link.drop(LOST);
    expect(await settled(ready)).toBe(false);
    alone.link.join(await alone.connect(), 7);
    await ready;
  });

  test('is gone when the link has ended', async () => {
    const alone = await Alone.open();
    alone.link.drop(LOST);
    const waiting = alone.link.ready();
    alone.link.giveUp(new GodwitError('cancelled', 'enough'));
    await expect(waiting).rejects.toMatchObject({ code: 'cancelled' });
    expect(alone.link.state).toBe('ended');
    const late = await alone.connect();
    expect(() => alone.link.join(late, 0)).toThrow('enough');
    expect(late.open).toBe(false);
    expect(alone.closes).toHaveLength(1);
  });
});

describe('a connection is lost', () => {
  test('when the peer says that it has heard nothing', async () => {
    const ends = await Ends.open();
    ends.sender.send('Suspend', { limitMs: 1, runState: 'running' });
    await until(() => ends.heard.receiver.length === 1, 'it is there');
    const { far } = pairs.at(-1)!;
    const silent = { code: 'peer-silent', text: 'the peer has said nothing for 5000 ms' };
    far.write(frameOf('Abort', 0, encodeBody('Abort', silent)));
    await until(() => !ends.sender.connected, 'it is told');
    expect(ends.sender.state).toBe('lost');
    expect(ends.closes).toEqual([]);
  });

  test('when nothing is heard while something waits', async () => {
    const alone = await Alone.open({ stallMs: 100 });
    alone.link.send('Suspend', { limitMs: 1, runState: 'running' });
    await until(() => alone.losses.length === 1, 'it is noticed');
    expect(alone.losses[0]).toMatchObject({ code: 'peer-silent' });
  });

  test('when nothing is acknowledged for long, although the peer is heard', async () => {
    const alone = await Alone.open({ stallMs: 100 });
    const talking = setInterval(() => alone.peer.write(frameOf('Ping', 0, PING)), 20);
    const began = performance.now();
    alone.link.send('Suspend', { limitMs: 1, runState: 'running' });
    await until(() => alone.losses.length === 1, 'it is noticed');
    clearInterval(talking);
    expect(performance.now() - began).toBeGreaterThan(100);
  });

  test('not when nothing waits', async () => {
    const alone = await Alone.open({ stallMs: 10 });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(alone.losses).toEqual([]);
  });
});

describe('a link is given up', () => {
  test('when no connection can be made, also after one that could not be joined', async () => {
    const alone = await Alone.open({ giveUpMs: 200 });
    alone.link.drop(LOST);
    const bad = await alone.connect();
    expect(() => alone.link.join(bad, 7)).toThrow(/has received 7 frames/);
    expect(bad.open).toBe(false);
    alone.link.failedAttempt(new GodwitError('connect-refused', 'nobody is there'));
    await until(() => alone.closes.length === 1, 'it is given up');
    expect(alone.closes[0]).toMatchObject({ code: 'reconnect-timeout' });
    expect(alone.closes[0]!.message).toBe(
      'the connection was lost (nothing is heard) and did not come back within 200 ms; the last attempt: nobody is there',
    );
  });

  test('when connections can be made and nothing is acknowledged on them', async () => {
    const alone = await Alone.open({ giveUpMs: 200 });
    alone.link.send('DirtyList', LIST);
    for (let i = 0; ; i++) {
      const another = await alone.connect();
      alone.link.drop(i === 0 ? LOST : new GodwitError('peer-silent', 'silent again'));
      if (alone.link.state === 'ended') break;
      alone.link.join(another, 0);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    const [error] = alone.closes;
    expect(error).toMatchObject({ code: 'no-progress' });
    expect(error!.message).toMatch(
      /was lost \(nothing is heard\) and made again .*, but the peer acknowledged nothing more within 200 ms: 1 frames wait, the first of them DirtyList with 100\d+ bytes; small frames pass and large ones do not: .*MTU.*last attempt: silent again/,
    );
  });

  test('not when the peer acknowledges what was sent again', async () => {
    const alone = await Alone.open({ giveUpMs: 20 });
    for (let i = 0; i < 3; i++) {
      alone.link.send('Suspend', { limitMs: i, runState: 'running' });
      const another = await alone.connect();
      alone.link.drop(LOST);
      expect(alone.link.state).toBe('lost');
      alone.link.join(another, i);
      await new Promise((resolve) => setTimeout(resolve, 60)); // the time is up: judged by its end
      alone.peer.write(frameOf('Ack', i));
      await until(() => alone.acked === i, 'acknowledged');
    }
    expect(alone.closes).toEqual([]);
  });
});
