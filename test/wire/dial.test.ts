import { once } from 'node:events';
import net from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { Settlement } from '../../lib/ownership/settlement.ts';
import type { SourceHandover } from '../../lib/ownership/source-handover.ts';
import { encodeBody } from '../../lib/wire/codec.ts';
import type { Connection, Received } from '../../lib/wire/connection.ts';
import { openControlLink } from '../../lib/wire/control-link.ts';
import { dialControl } from '../../lib/wire/dial.ts';
import { admit } from '../../lib/wire/door.ts';
import { chooseWelcome, helloMessage } from '../../lib/wire/handshake.ts';
import { Link } from '../../lib/wire/link.ts';
import { receiveTerms, sendTerms } from '../../lib/wire/terms.ts';
import { frameOf } from './arbitraries.ts';
import { until } from './sockets.ts';

const servers: net.Server[] = [];
const sockets = new Set<net.Socket>();
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
  for (const socket of sockets) socket.destroy();
  sockets.clear();
});

/** Listens; how a test reaches it. */
async function listen(onConnection: (socket: net.Socket) => void, connectTimeoutMs = 20_000) {
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    onConnection(socket);
  });
  servers.push(server.listen(0, '127.0.0.1'));
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  const security = { credentials: undefined, insecure: false };
  const times = { peerTimeoutMs: connectTimeoutMs, connectTimeoutMs };
  return (signal = new AbortController().signal) =>
    dialControl({ host: '127.0.0.1', port, security, lanes: 1, ...times, signal });
}

const WELCOME = frameOf(
  'Welcome',
  0,
  encodeBody('Welcome', chooseWelcome(helloMessage(sendTerms(1)), receiveTerms())),
);
const ABORT = frameOf('Abort', 0, encodeBody('Abort', { code: 'shutting-down', text: 'stops' }));

describe('dialling', () => {
  test('a receiver that stops as it answers: Welcome and Abort in one segment', async () => {
    const dial = await listen((socket) =>
      socket.once('data', () => socket.end(Buffer.concat([WELCOME, ABORT]))),
    );
    await expect(dial()).rejects.toMatchObject({ code: 'shutting-down', fromPeer: true });
  });

  test('the same while a handover is being settled: it is asked again, and nobody dies', async () => {
    let asked = 0;
    const dial = await listen((socket) =>
      socket.once('data', () => {
        asked++;
        socket.end(Buffer.concat([WELCOME, ABORT]));
      }),
    );
    const handover = {
      state: { name: 'committed', epoch: 1 },
      speakThrough: () => {},
      idle: async () => {},
    } as unknown as SourceHandover;
    const settlement: Settlement = new Settlement({
      handover,
      migration: '0123456789abcdef',
      secret: new Uint8Array(16),
      dial: async () => (await dial()).control,
      onWaiting: (reason) => {
        expect(reason).toMatchObject({ code: 'shutting-down' });
        if (asked === 2) settlement.stop();
        else settlement.hurry();
      },
    });
    await settlement.run();
    expect(asked).toBe(2);
  });

  test('is called off, whatever it waits for', async () => {
    const over = new AbortController();
    let hello: Promise<unknown> | undefined;
    let closed: Promise<unknown> | undefined;
    const dial = await listen((socket) => {
      hello = once(socket, 'data');
      closed = once(socket, 'close');
    });
    const dialling = dial(over.signal);
    await until(() => hello !== undefined, 'it is connected');
    await hello;
    over.abort();
    await expect(dialling).rejects.toMatchObject({ code: 'cancelled' });
    await closed;
    await expect(dial(over.signal)).rejects.toMatchObject({ code: 'cancelled' });
  });

  test('a receiver that pings and never says Welcome', async () => {
    const ping = frameOf('Ping', 0, encodeBody('Ping', { cookie: 1 }));
    const dial = await listen((socket) => {
      const talking = setInterval(() => socket.write(ping), 20);
      socket.on('close', () => clearInterval(talking)).resume();
    }, 200);
    await expect(dial()).rejects.toMatchObject({
      code: 'peer-silent',
      message: 'the receiver says no Welcome in 200 ms',
    });
  });
});

const OPTIONS = { giveUpMs: 60_000, stallMs: 60_000, onClose: () => {} };

describe('a control link', () => {
  /** Both ends, with the door between them; the receiver says what the test tells it. */
  async function open() {
    const heard: number[] = [];
    const far: { link?: Link; control?: Connection } = {};
    const turnedAway: string[] = [];
    const secret = new Uint8Array(16);
    const dial = await listen((socket) => {
      admit(socket, {
        peerTimeoutMs: 20_000,
        offer: (_offer, control) => {
          far.control = control;
          far.link = new Link(control, {
            ...OPTIONS,
            onMessage: () => {},
            mayRejoin: () => true,
            onLost: () => {},
          });
        },
        rejoin: ({ received }, control) => {
          far.control = control;
          far.link!.join(
            control,
            received,
            (own) => void control.send('Rejoined', { received: own }),
          );
        },
        recover: () => {},
        check: () => {},
        onTurnedAway: ({ message }) => turnedAway.push(message),
      });
    });
    const { link } = await openControlLink({
      ...OPTIONS,
      dial: () => dial(),
      migration: '0123456789abcdef',
      secret: () => secret,
      answerMs: 20_000,
      onMessage: ({ message }: Received) => heard.push((message as { epoch: number }).epoch),
      mayRejoin: () => true,
      onLost: () => {},
      onBack: () => {},
    });
    link.send('GuestOffer', OFFER);
    await until(() => far.link !== undefined, 'the offer is there');
    return { link, heard, far, turnedAway };
  }

  test('hears what is sent again right behind Rejoined', async () => {
    const { link, heard, far, turnedAway } = await open();
    for (let i = 0; i < 5; i++) {
      for (const socket of sockets) socket.destroy();
      await until(() => far.link!.state === 'lost', 'the receiver notices');
      for (let n = 0; n < 10; n++)
        far.link!.send('Running', { epoch: i * 10 + n, resumeMs: 0, runState: 'running' });
      await until(() => heard.length === (i + 1) * 10, 'all of it arrives');
    }
    expect(heard).toEqual(Array.from({ length: 50 }, (_, n) => n));
    expect(turnedAway).toEqual([]);
    link.close();
    expect(link.state).toBe('ended');
  });

  test('is over when the peer says so, and not when it has heard nothing', async () => {
    const { link, far } = await open();
    const abort = (code: string) =>
      frameOf('Abort', 0, encodeBody('Abort', { code, text: 'it says' }));
    for (const [code, state] of [
      ['peer-silent', 'connected'],
      ['round-incomplete', 'ended'],
    ] as const) {
      const before = far.control;
      [...sockets].at(-1)!.write(abort(code));
      await until(
        () => link.state === state && (state === 'ended' || far.control !== before),
        code,
      );
      await until(() => link.state === state, code);
    }
  });
});

const OFFER = {
  migration: '0123456789abcdef',
  epoch: 1,
  guest: 'vm1',
  hypervisor: 'simulated',
  deviceModel: 'x',
  pageSize: 4096,
  regions: [{ name: 'ram', firstPfn: 0, pages: 1 }],
  hashSeed: 1n,
  keptSecret: new Uint8Array(0),
  verify: false,
};
