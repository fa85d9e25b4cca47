import { timingSafeEqual } from 'node:crypto';
import net from 'node:net';
import { GodwitError } from '../errors.ts';
import { fingerprintOf } from './certificate-names.ts';
import { Connection } from './connection.ts';
import type { Credentials } from './credentials.ts';
import type { LaneOpen } from './messages.ts';
import { readInPlace } from './read-in-place.ts';
import { secureServer } from './tls.ts';

/** Time that a connection gets to say which lane it is, ms; more where peers may be silent for longer. */
const OPEN_TIMEOUT_MS = 5000;
/** Connections that may be in that state at once; more are turned away. */
const MAX_STRANGERS = 4;

export interface LaneDoorOptions {
  readonly listenHost: string;
  /** Ports to try in turn; 0: any. */
  readonly listenPorts: readonly number[];
  readonly credentials: Credentials | undefined;
  /** SHA-256 of the certificate that the sender showed on its control connection. */
  readonly senderFingerprint: string;
  /** What LaneOpen has to say. */
  readonly migration: string;
  readonly lane: number;
  readonly secret: Uint8Array;
  readonly peerTimeoutMs: number;
  /** Makes memory for payloads of the lane, as of a connection. */
  readonly newPayloadBytes?: (bytes: number) => Buffer;
  /**
   * Takes a connection over that belongs to the lane (`Connection.serve`), and answers it; its sender has
   * received so many numbered frames on the lane.
   */
  readonly onOpen: (lane: Connection, received: number) => void;
}

/** The port of one lane: greets what connects, and lets in who knows the secret. */
export class LaneDoor {
  readonly #options: LaneDoorOptions;
  #strangers = 0;
  #server: net.Server | undefined;
  readonly #sockets = new Set<net.Socket>();

  constructor(options: LaneDoorOptions) {
    this.#options = options;
  }

  /** Resolves to the port. @throws GodwitError listen-failed */
  async listen(): Promise<number> {
    const { listenHost, listenPorts } = this.#options;
    for (const port of listenPorts) {
      const server = this.#newServer();
      const bound = await tryListen(server, listenHost, port);
      if (bound === undefined) continue;
      this.#server = server;
      return bound;
    }
    throw new GodwitError(
      'listen-failed',
      `no free data port on ${listenHost}: all of ${listenPorts[0]} to ${listenPorts.at(-1)} are taken`,
    );
  }

  /** Nobody comes in any more, and the port is free for others; who is there stays. */
  shut(): void {
    this.#server?.close();
  }

  /** The same, and who is there goes. */
  close(): void {
    this.shut();
    for (const socket of this.#sockets) socket.destroy();
  }

  #newServer(): net.Server {
    const { credentials, senderFingerprint } = this.#options;
    const own = (socket: net.Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      return socket;
    };
    if (credentials === undefined)
      return net.createServer({ pauseOnConnect: true }, (accepted) => {
        let lane: Connection | undefined;
        lane = this.#admit(own(readInPlace(accepted, () => lane?.place)));
      });
    const server = net.createServer(own);
    secureServer(server, {
      credentials,
      refuses: (certificate) =>
        fingerprintOf(certificate) === senderFingerprint
          ? undefined
          : 'is not that of the control connection',
      onConnection: (socket, refusal) => void this.#admit(socket, refusal),
      onFailure: (_, socket) => socket.destroy(),
    });
    return server;
  }

  /** A connection is a stranger until it names this lane and knows the secret. */
  #admit(socket: net.Socket, refusal?: GodwitError): Connection | undefined {
    if (this.#strangers >= MAX_STRANGERS) {
      socket.destroy();
      return undefined;
    }
    this.#strangers++;
    const settle = () => {
      clearTimeout(timer);
      this.#strangers--;
    };
    const timer = setTimeout(
      () => lane.destroy(new GodwitError('peer-silent', 'the connection opened no lane in time')),
      Math.max(OPEN_TIMEOUT_MS, this.#options.peerTimeoutMs),
    );
    const { newPayloadBytes } = this.#options;
    let isStranger = true;
    const lane = new Connection(socket, {
      side: 'receiver',
      connection: 'data',
      newPayloadBytes: (bytes) =>
        isStranger || !newPayloadBytes ? Buffer.allocUnsafeSlow(bytes) : newPayloadBytes(bytes),
      onMessage: (received) => {
        if (received.kind !== 'LaneOpen') throw refused('LaneOpen must come first');
        this.#checkOpen(received.message);
        isStranger = false;
        settle();
        this.#options.onOpen(lane, received.message.received);
      },
      onClose: settle,
    });
    if (refusal) lane.destroy(refusal);
    return lane;
  }

  #checkOpen({ migration, lane, secret }: LaneOpen): void {
    const own = this.#options;
    if (
      migration !== own.migration ||
      lane !== own.lane ||
      secret.length !== own.secret.length ||
      !timingSafeEqual(secret, own.secret)
    )
      throw refused('it does not belong to the migration that is expected here');
  }
}

/** The ports of a range, in turn; without one, any. */
export function portsToTry(range: { first: number; last: number } | undefined): number[] {
  if (!range) return [0];
  return Array.from({ length: range.last - range.first + 1 }, (_, i) => range.first + i);
}

function refused(why: string): GodwitError {
  return new GodwitError('lane-refused', `data connection refused: ${why}`);
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
