import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import type { GodwitError } from '../../lib/errors.ts';
import { Channel } from '../../lib/wire/channel.ts';
import { Link } from '../../lib/wire/link.ts';
import { SocketPair, until } from './sockets.ts';

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

  async #connect(): Promise<[Channel, Channel]> {
    this.#pair = await SocketPair.open();
    pairs.push(this.#pair);
    const ignore = { onMessage: () => {}, onClose: () => {} };
    const connection = 'control';
    return [
      new Channel(this.#pair.near, { side: 'sender', connection, ...ignore }),
      new Channel(this.#pair.far, { side: 'receiver', connection, ...ignore }),
    ];
  }

  #link(channel: Channel, side: 'sender' | 'receiver'): Link {
    return new Link(channel, {
      onMessage: ({ message }) => this.heard[side].push((message as { epoch: number }).epoch),
      mayRejoin: () => this.mayRejoin,
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
          if (what === 'send') ends.sender.send('Commit', { epoch: sent.sender++ });
          if (what === 'answer')
            ends.receiver.send('Running', { epoch: sent.receiver++, resumeMs: 0 });
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
    const part = Buffer.alloc(1 << 20);
    await ends.cut();
    for (let i = 0; i < 9; i++)
      ends.sender.send('DeviceState', { offset: 0, total: 0, hash: 0n }, [part]);
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
    ends.sender.send('Commit', { epoch: 1 });
    await ends.cut();
    const pair = await SocketPair.open();
    pairs.push(pair);
    const { near } = pair;
    const channel = new Channel(near, {
      side: 'sender',
      connection: 'control',
      onMessage: () => {},
      onClose: () => {},
    });
    expect(() => ends.sender.join(channel, 2)).toThrow(/has received 2 frames; 0 to 1/);
    channel.close();
  });
});
