import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import type { GodwitError } from '../../lib/errors.ts';
import { Connection, type ConnectionOptions, type Received } from '../../lib/wire/connection.ts';

/** A connection with everything that it reported, in order; payloads are copies. */
export interface Watched {
  connection: Connection;
  received: Received[];
  /** One entry for each call of onClose. */
  closes: (GodwitError | undefined)[];
  /** Resolves with the first of them. */
  closed: Promise<GodwitError | undefined>;
}

/** Options that record into a Watched, which lacks only its connection. */
export function watching(options: Omit<ConnectionOptions, 'onMessage' | 'onClose'>) {
  const { promise: closed, resolve } = Promise.withResolvers<GodwitError | undefined>();
  const watched: Omit<Watched, 'connection'> = { received: [], closes: [], closed };
  const recording: ConnectionOptions = {
    ...options,
    onMessage: (frame) => {
      watched.received.push({ ...frame, payload: Buffer.from(frame.payload) });
    },
    onClose: (error) => {
      watched.closes.push(error);
      resolve(error);
    },
  };
  return { watched, recording };
}

export function watchedLane(
  socket: Socket,
  options: Omit<ConnectionOptions, 'onMessage' | 'onClose'>,
): Watched {
  const { watched, recording } = watching(options);
  return { ...watched, connection: new Connection(socket, recording) };
}

/** Two ends of a real connection over loopback, until `dispose` destroys both. */
export class SocketPair {
  readonly near: Socket;
  readonly far: Socket;
  readonly #server: Server;

  private constructor(near: Socket, far: Socket, server: Server) {
    this.near = near;
    this.far = far;
    this.#server = server;
  }

  static async open(): Promise<SocketPair> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const near = connect((server.address() as AddressInfo).port, '127.0.0.1');
    await once(near, 'connect');
    const [far] = await accepted;
    return new SocketPair(near, far, server);
  }

  dispose(): void {
    for (const socket of [this.near, this.far]) {
      socket.on('error', () => {});
      socket.destroy();
    }
    this.#server.close();
  }
}

/** Polls until the condition holds; the bound is for a broken program, not a slow machine. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  for (const end = Date.now() + 30_000; !condition(); ) {
    if (Date.now() > end) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
