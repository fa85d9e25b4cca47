import { timingSafeEqual } from 'node:crypto';
import net from 'node:net';
import { Agent } from '../lib/control/agent.ts';
import { listenOn } from '../lib/control/listen.ts';
import { log } from '../lib/control/log.ts';
import { warnOfInsecurity } from '../lib/control/security-options.ts';
import { ControlServer } from '../lib/control/server.ts';
import type { Daemon } from '../lib/control/signals.ts';
import { takeActivatedSocket } from '../lib/control/socket-activation.ts';
import { asGodwitError, GodwitError } from '../lib/errors.ts';
import type { DestinationGuest, GuestDescription, Moment } from '../lib/guest/guest.ts';
import { DESTINATION_STATES } from '../lib/handover/destination-machine.ts';
import { Journal, type JournalEntry } from '../lib/journal/journal.ts';
import { formatSize } from '../lib/units.ts';
import type { Channel } from '../lib/wire/channel.ts';
import { checkListenAddress } from '../lib/wire/connect.ts';
import type { GuestOffer, Welcome } from '../lib/wire/messages.ts';
import { fingerprintOf, secureServer } from '../lib/wire/tls.ts';
import { Admission } from './admission.ts';
import { admit, peerName } from './door.ts';
import { Guests } from './guests.ts';
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
  readonly #guests: Guests;
  readonly #admission: Admission;
  readonly #server = net.createServer();
  /** Where it listens, once it does. */
  #address: net.AddressInfo | undefined;

  constructor(options: RecvDaemonOptions, journal: Journal) {
    super();
    this.#options = options;
    this.#journal = journal;
    this.#guests = new Guests(options);
    this.#admission = new Admission(options.maxMigrations);
    this.#serve(options);
  }

  #serve({ security: { credentials }, allowed }: RecvDaemonOptions): void {
    if (credentials === undefined) {
      this.#server.on('connection', (socket) => this.#connected(socket, '', undefined));
      return;
    }
    secureServer(this.#server, {
      credentials,
      refuses: (certificate) =>
        allowed.admits(certificate) ? undefined : 'is not on the allow-list (--allow-peer)',
      onConnection: (socket, refusal) =>
        this.#connected(socket, fingerprintOf(socket.getPeerCertificate()), refusal),
      onFailure: (error, socket) => {
        this.#admission.failed(socket.remoteAddress ?? 'unknown', error);
        socket.destroy();
      },
    });
  }

  /** Takes up what an earlier run left open: known when this returns, finished in the background. */
  recover(): void {
    for (const entry of this.#journal.open) this.#recoverOne(entry);
  }

  #recoverOne(entry: JournalEntry): void {
    const arrival = new RecoveredArrival(entry, {
      journal: this.#journal,
      attach: (name, handle) => this.#guests.attach(entry.hypervisor, name, handle),
      hook: (moment, migration) => this.#hook(moment, migration),
      onChange: (changed) => this.#changed(changed),
      log: (level, text, { id, guestName }) => log(level, text, `${id} ${guestName}`),
    });
    this.#open.set(arrival.id, arrival);
    this.registry.add(arrival);
    arrival.restart().catch((error) => log('error', asGodwitError(error).message, arrival.id));
  }

  #hook(
    moment: Moment,
    { guestName: guest, id: migration, peer }: ReceiveSession | RecoveredArrival,
  ): Promise<void> {
    return this.#guests.hook(moment, { guest, migration, side: 'destination', peer });
  }

  #changed(migration: ReceiveSession | RecoveredArrival): void {
    if (migration.handover.state.name === 'ended') this.#open.delete(migration.id);
    this.registry.changed(migration);
  }

  /** Takes the socket of the service manager, if there is one. @throws GodwitError listen-failed */
  async listen(): Promise<net.AddressInfo> {
    const { listenHost: host, listenPort: port } = this.#options;
    const fd = takeActivatedSocket();
    this.#address = await (fd === undefined
      ? listenOn(this.#server, { host, port }, `${host} port ${port}`)
      : listenOn(this.#server, { fd }, 'the socket of the service manager'));
    try {
      checkListenAddress(this.#address.address, this.#options.security);
    } catch (error) {
      this.#server.close();
      throw error;
    }
    return this.#address;
  }

  /**
   * Gives up what does not run here yet and waits until that has ended. What the source still has
   * to say is left to the journal.
   */
  async stop(): Promise<void> {
    this.#server.close();
    const error = new GodwitError('shutting-down', 'agent-recv was told to stop');
    for (const stranger of this.#strangers) stranger.destroy(error);
    const open = [...this.#open.values()];
    const sessions = open.filter((migration) => migration instanceof ReceiveSession);
    const arrivals = open.filter((migration) => migration instanceof RecoveredArrival);
    for (const session of sessions) if (session.cancellable) session.cancel(error);
    for (const session of sessions) if (!session.cancellable) session.leave();
    await Promise.all(sessions.map((session) => session.finished));
    await Promise.all(arrivals.map((arrival) => arrival.leave()));
    await this.#journal.close();
  }

  #connected(socket: net.Socket, fingerprint: string, refusal: GodwitError | undefined): void {
    const peer = peerName(socket);
    const address = socket.remoteAddress ?? 'unknown';
    if (!this.#admission.enter(address)) return void socket.destroy();
    const enter = (channel: Channel) => {
      if (this.#strangers.delete(channel)) this.#admission.leave();
    };
    const control = admit(socket, {
      peerTimeoutMs: this.#options.peerTimeoutMs,
      offer: (offer, channel, welcome) => {
        this.#offered(offer, channel, welcome, peer, fingerprint);
        enter(channel);
      },
      rejoin: ({ migration, secret, received }, channel) => {
        const session = this.#known(migration, secret);
        if (!(session instanceof ReceiveSession)) throw notOpen(migration);
        session.rejoin(channel, received);
        enter(channel);
      },
      recover: (recover, channel) => {
        const known = this.#known(recover.migration, recover.secret);
        known.recover(channel);
        known.handover.tell({ type: 'recover' });
        enter(channel);
      },
      onTurnedAway: (error) => {
        this.#admission.failed(address, error);
        enter(control);
      },
    });
    this.#strangers.add(control);
    if (refusal) control.destroy(refusal);
  }

  #offered(
    offer: GuestOffer,
    control: Channel,
    welcome: Welcome,
    peer: string,
    senderFingerprint: string,
  ): void {
    this.#admission.checkMigrations(this.#open.size);
    if (this.#open.has(offer.migration) || this.registry.tryFind(offer.migration))
      throw new GodwitError('bad-message', `migration ${offer.migration} is known here already`);
    const { dataPorts, reconnectTimeoutMs } = this.#options;
    const session: ReceiveSession = new ReceiveSession(offer, control, welcome, {
      peer,
      credentials: this.#options.security.credentials,
      senderFingerprint,
      listenHost: this.#address!.address,
      dataPorts,
      reconnectTimeoutMs,
      journal: this.#journal,
      attach: (name, handle) => this.#guests.attach(offer.hypervisor, name, handle),
      hook: (moment, migration) => this.#hook(moment, migration),
      startGuest: (description, bytes) => this.#startGuest(session, description, bytes),
      onChange: (changed) => this.#changed(changed),
      log: (level, text) => log(level, text, session.id),
    });
    this.#open.set(session.id, session);
    this.registry.add(session);
    session.begin();
  }

  /** @throws GodwitError unknown-migration, also for a wrong secret */
  #known(id: string, secret: Uint8Array): ReceiveSession | RecoveredArrival {
    const migration = this.#open.get(id);
    if (migration?.secret.length !== secret.length || !timingSafeEqual(migration.secret, secret))
      throw notOpen(id);
    return migration;
  }

  async #startGuest(
    session: ReceiveSession,
    description: GuestDescription,
    bytes: number,
  ): Promise<DestinationGuest> {
    this.#checkMemory(session, bytes);
    return this.#guests.start(description);
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

function notOpen(id: string): GodwitError {
  const text = `migration ${id} is not open here: it has ended or was never accepted`;
  return new GodwitError('unknown-migration', text);
}

/** Starts the daemon; it listens and serves its control socket until `stop`. */
export async function startRecvDaemon(options: RecvDaemonOptions): Promise<Daemon> {
  warnOfInsecurity(options.security);
  const journal = await Journal.open(options.stateDir, DESTINATION_STATES);
  const daemon = new RecvDaemon(options, journal);
  let server: ControlServer | undefined;
  let status: string;
  try {
    server = await ControlServer.open(options.socket, daemon);
    daemon.recover(); // before a sender can ask
    const { address, port } = await daemon.listen();
    status = `listening on ${address} port ${port}, control socket ${options.socket}`;
    log('info', `agent-recv ready: ${status}`);
  } catch (error) {
    await server?.close();
    await journal.close();
    throw error;
  }
  return {
    status,
    stop: async () => {
      await daemon.stop();
      await server.close();
    },
  };
}
