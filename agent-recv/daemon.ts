import { mkdir } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { Agent } from '../lib/control/agent.ts';
import { log } from '../lib/control/log.ts';
import { ControlServer } from '../lib/control/server.ts';
import { GodwitError } from '../lib/errors.ts';
import type { DestinationGuest, GuestDescription } from '../lib/guest/guest.ts';
import { startSimulatedDestination } from '../lib/guest/simulated/destination.ts';
import { formatSize } from '../lib/units.ts';
import type { RecvDaemonOptions } from './options.ts';
import { ReceiveSession } from './session.ts';

/** Memory of the host that guests never get, bytes. */
const HOST_RESERVE = 256 << 20;

/** The receiving daemon: takes guests from senders that connect. */
export class RecvDaemon extends Agent<ReceiveSession> {
  override readonly role = 'receive';
  readonly #options: RecvDaemonOptions;
  /** Every open connection, whether or not it has made an offer. */
  readonly #sessions = new Set<ReceiveSession>();
  readonly #server = net.createServer((socket) => this.#connected(socket));

  constructor(options: RecvDaemonOptions) {
    super();
    this.#options = options;
  }

  /** @throws GodwitError listen-failed */
  listen(): Promise<net.AddressInfo> {
    const { listenHost, listenPort } = this.#options;
    return new Promise((resolve, reject) => {
      this.#server.once('error', (cause: NodeJS.ErrnoException) => {
        const text = `cannot listen on ${listenHost} port ${listenPort}: ${cause.code}`;
        reject(new GodwitError('listen-failed', text, { cause }));
      });
      this.#server.listen(listenPort, listenHost, () =>
        resolve(this.#server.address() as net.AddressInfo),
      );
    });
  }

  /** Gives up what does not run here yet and waits until everything has ended. */
  async stop(): Promise<void> {
    this.#server.close();
    const error = new GodwitError('shutting-down', 'agent-recv was told to stop');
    const open = [...this.#sessions];
    for (const session of open) if (session.cancellable) session.cancel(error);
    await Promise.all(open.map((session) => session.finished));
  }

  #connected(socket: net.Socket): void {
    const { listenHost, dataPorts, peerTimeoutMs } = this.#options;
    const session: ReceiveSession = new ReceiveSession(socket, {
      listenHost,
      dataPorts,
      peerTimeoutMs,
      startGuest: (description, bytes) => this.#startGuest(session, description, bytes),
      onChange: () => this.registry.changed(session),
      log: (level, text) => log(level, text, session.id || session.peer),
    });
    this.#sessions.add(session);
    session.finished.then(() => this.#sessions.delete(session));
  }

  async #startGuest(
    session: ReceiveSession,
    description: GuestDescription,
    bytes: number,
  ): Promise<DestinationGuest> {
    if (this.registry.tryFind(session.id))
      throw new GodwitError('bad-message', `migration ${session.id} is known here already`);
    this.registry.add(session);
    if (description.hypervisor !== 'simulated')
      throw new GodwitError(
        'hypervisor-failed',
        `this receiver has no hypervisor "${description.hypervisor}"`,
      );
    this.#checkMemory(session, bytes);
    const { guestDir: dir, ramDir, stateDir } = this.#options;
    await mkdir(stateDir, { recursive: true, mode: 0o700 });
    const logFile = path.join(stateDir, `${description.name}.log`);
    return startSimulatedDestination({ dir, ramDir, description, logFile });
  }

  /** Memory that is promised to other migrations and not filled yet is not free. */
  #checkMemory(session: ReceiveSession, bytes: number): void {
    const promised = [...this.#sessions]
      .filter((other) => other !== session)
      .reduce((sum, other) => sum + other.owedBytes, 0);
    const free = process.availableMemory() - promised - HOST_RESERVE;
    if (bytes <= free) return;
    throw new GodwitError(
      'memory-insufficient',
      `the guest needs ${formatSize(bytes)} of memory, the destination has ${formatSize(Math.max(0, free))} to spare`,
    );
  }
}

/** Starts the daemon; it listens and serves its control socket until `stop`. */
export async function startRecvDaemon(options: RecvDaemonOptions) {
  const daemon = new RecvDaemon(options);
  const server = await ControlServer.open(options.socket, daemon);
  try {
    const { address, port } = await daemon.listen();
    log(
      'info',
      `agent-recv ready: listening on ${address} port ${port}, control socket ${options.socket}`,
    );
  } catch (error) {
    await server.close();
    throw error;
  }
  return {
    stop: async () => {
      await daemon.stop();
      await server.close();
    },
  };
}
