import { timingSafeEqual } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { Agent } from '../lib/control/agent.ts';
import { log } from '../lib/control/log.ts';
import { ControlServer } from '../lib/control/server.ts';
import { asGodwitError, GodwitError } from '../lib/errors.ts';
import type { DestinationGuest, GuestDescription } from '../lib/guest/guest.ts';
import { attachSimulated } from '../lib/guest/simulated/copy.ts';
import { startSimulatedDestination } from '../lib/guest/simulated/destination.ts';
import { Journal, type JournalEntry } from '../lib/journal/journal.ts';
import { formatSize } from '../lib/units.ts';
import type { Channel } from '../lib/wire/channel.ts';
import type { GuestOffer, Recover, Welcome } from '../lib/wire/messages.ts';
import { admit, type Host, peerName } from './door.ts';
import type { RecvDaemonOptions } from './options.ts';
import { RecoveredArrival } from './recovered.ts';
import { ReceiveSession } from './session.ts';

/** Memory of the host that guests never get, bytes. */
const HOST_RESERVE = 256 << 20;

/** The receiving daemon: takes guests from senders that connect. */
export class RecvDaemon extends Agent<ReceiveSession | RecoveredArrival> {
  override readonly role = 'receive';
  readonly #options: RecvDaemonOptions;
  /** Migrations whose handover is not over, by id. */
  readonly #open = new Map<string, ReceiveSession | RecoveredArrival>();
  /** Connections that have not said what they want. */
  readonly #strangers = new Set<Channel>();
  readonly #journal: Journal;
  readonly #server = net.createServer((socket) => this.#connected(socket));

  constructor(options: RecvDaemonOptions, journal: Journal) {
    super();
    this.#options = options;
    this.#journal = journal;
  }

  /** Takes up what an earlier run left open: known when this returns, finished in the background. */
  recover(): void {
    for (const entry of this.#journal.open) this.#recoverOne(entry);
  }

  #recoverOne(entry: JournalEntry): void {
    const arrival = new RecoveredArrival(entry, {
      journal: this.#journal,
      attach: (name, handle) => attachSimulated(this.#options.guestDir, name, handle),
      onChange: (changed) => this.#changed(changed),
      log: (level, text, { id, guestName }) => log(level, text, `${id} ${guestName}`),
    });
    this.#open.set(arrival.id, arrival);
    this.registry.add(arrival);
    arrival.restart().catch((error) => log('error', asGodwitError(error).message, arrival.id));
  }

  #changed(migration: ReceiveSession | RecoveredArrival): void {
    if (migration.handover.state.name === 'ended') this.#open.delete(migration.id);
    this.registry.changed(migration);
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

  /**
   * Gives up what does not run here yet and waits until that has ended. What the source still has
   * to say is left to the journal.
   */
  async stop(): Promise<void> {
    this.#server.close();
    const error = new GodwitError('shutting-down', 'agent-recv was told to stop');
    for (const stranger of this.#strangers) stranger.destroy(error);
    const open = [...this.#open.values()].filter((m) => m instanceof ReceiveSession);
    for (const session of open) if (session.cancellable) session.cancel(error);
    for (const session of open) if (!session.cancellable) session.leave();
    await Promise.all(open.map((session) => session.finished));
    await this.#journal.close();
  }

  #connected(socket: net.Socket): void {
    const peer = peerName(socket);
    const control = admit(socket, {
      peerTimeoutMs: this.#options.peerTimeoutMs,
      offer: (offer, welcome, channel) => {
        this.#strangers.delete(channel);
        return this.#offered(offer, welcome, channel, peer);
      },
      recover: (recover, channel) => {
        this.#strangers.delete(channel);
        return this.#recoverAsked(recover, channel);
      },
      onTurnedAway: (error) => {
        this.#strangers.delete(control);
        log('warn', `connection from ${peer}: ${error.message}`, peer);
      },
    });
    this.#strangers.add(control);
  }

  #offered(offer: GuestOffer, welcome: Welcome, control: Channel, peer: string): Host {
    if (this.#open.has(offer.migration) || this.registry.tryFind(offer.migration))
      throw new GodwitError('bad-message', `migration ${offer.migration} is known here already`);
    const { listenHost, dataPorts, guestDir } = this.#options;
    const session: ReceiveSession = new ReceiveSession(offer, welcome, control, {
      peer,
      listenHost,
      dataPorts,
      journal: this.#journal,
      attach: (name, handle) => attachSimulated(guestDir, name, handle),
      startGuest: (description, bytes) => this.#startGuest(session, description, bytes),
      onChange: (changed) => this.#changed(changed),
      log: (level, text) => log(level, text, session.id),
    });
    this.#open.set(session.id, session);
    this.registry.add(session);
    session.begin();
    return hostOf(session, control);
  }

  /** @throws GodwitError unknown-migration */
  #recoverAsked(recover: Recover, control: Channel): Host {
    const migration = this.#open.get(recover.migration);
    const { secret } = recover;
    if (migration?.secret.length !== secret.length || !timingSafeEqual(migration.secret, secret))
      throw new GodwitError(
        'unknown-migration',
        `migration ${recover.migration} is not open here: it has ended or was never accepted`,
      );
    migration.rejoin(control);
    migration.handover.hear({ kind: 'Recover', message: recover, sequence: 0, payload: NOTHING });
    return hostOf(migration, control);
  }

  async #startGuest(
    session: ReceiveSession,
    description: GuestDescription,
    bytes: number,
  ): Promise<DestinationGuest> {
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
    const promised = [...this.#open.values()]
      .filter((other) => other instanceof ReceiveSession && other !== session)
      .reduce((sum, other) => sum + (other as ReceiveSession).owedBytes, 0);
    const free = process.availableMemory() - promised - HOST_RESERVE;
    if (bytes <= free) return;
    throw new GodwitError(
      'memory-insufficient',
      `the guest needs ${formatSize(bytes)} of memory, the destination has ${formatSize(Math.max(0, free))} to spare`,
    );
  }
}

const NOTHING = Buffer.alloc(0);

/** The end of a connection that was replaced says nothing about the migration. */
function hostOf(migration: ReceiveSession | RecoveredArrival, control: Channel): Host {
  return {
    onMessage: (received) => migration.receive(received),
    onClose: (error) => migration.lost(control, error),
  };
}

/** Starts the daemon; it listens and serves its control socket until `stop`. */
export async function startRecvDaemon(options: RecvDaemonOptions) {
  const journal = await Journal.open(options.stateDir);
  const daemon = new RecvDaemon(options, journal);
  let server: ControlServer | undefined;
  try {
    server = await ControlServer.open(options.socket, daemon);
    daemon.recover(); // before a sender can ask
    const { address, port } = await daemon.listen();
    const where = `listening on ${address} port ${port}, control socket ${options.socket}`;
    log('info', `agent-recv ready: ${where}`);
  } catch (error) {
    await server?.close();
    await journal.close();
    throw error;
  }
  return {
    stop: async () => {
      await daemon.stop();
      await server.close();
    },
  };
}
