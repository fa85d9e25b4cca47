import { timingSafeEqual } from 'node:crypto';
import net from 'node:net';
import type { Figures } from '../lib/api/metrics.ts';
import type { Crew } from '../lib/crew/crew.ts';
import { Admission } from '../lib/daemon/admission.ts';
import { Agent } from '../lib/daemon/agent.ts';
import { inBackground } from '../lib/daemon/background.ts';
import { openEntrance, type Terms, type Visitor } from '../lib/daemon/entrance.ts';
import { ExpiryWatch } from '../lib/daemon/expiry.ts';
import { listenOn } from '../lib/daemon/listen.ts';
import { takeActivatedSocket } from '../lib/daemon/socket-activation.ts';
import { asGodwitError, GodwitError } from '../lib/errors.ts';
import { type Finding, lookAt } from '../lib/finding.ts';
import type { DestinationGuest, GuestDescription } from '../lib/guest/guest.ts';
import { Guests } from '../lib/guest/guests.ts';
import type { GuestOutline } from '../lib/guest/hypervisor.ts';
import { log } from '../lib/log.ts';
import { CheckAnswering } from '../lib/migration/check/answer.ts';
import { withOthers } from '../lib/migration/check/refusal.ts';
import { DestinationMigration } from '../lib/migration/destination.ts';
import { RecoveredArrival } from '../lib/migration/recovered.ts';
import { DESTINATION_STATES } from '../lib/ownership/destination-machine.ts';
import type { JournalEntry } from '../lib/ownership/journal/journal.ts';
import type { Ownership } from '../lib/ownership/ownership.ts';
import { formatSize } from '../lib/units.ts';
import { checkListenAddress } from '../lib/wire/connect.ts';
import type { Connection } from '../lib/wire/connection.ts';
import { admit } from '../lib/wire/door.ts';
import { checkGuestOffer, requireCheck } from '../lib/wire/handshake.ts';
import type { Check, GuestOffer, Welcome } from '../lib/wire/messages.ts';
import type { RecvDaemonOptions } from './options.ts';

/** Memory of the host that guests never get, bytes. */
const HOST_RESERVE = 256 << 20;

/** Whoever offers a guest. */
interface Sender {
  readonly peer: string;
  readonly fingerprint: string;
  readonly identity: string;
  /** Its host, which admission counts by. */
  readonly address: string;
}

type Arrival = DestinationMigration | RecoveredArrival;

/** The receiving daemon: takes guests from senders that connect. */
export class RecvDaemon extends Agent<Arrival> {
  override readonly role = 'receive';
  #options: RecvDaemonOptions;
  readonly #crew: Crew;
  readonly #expiry: ExpiryWatch;
  readonly #renewEntrance: (terms: Terms) => void;
  /** Migrations whose handover is not over, by id. */
  readonly #open = new Map<string, Arrival>();
  /** Offers whose guest is being claimed. */
  readonly #claiming = new Set<string>();
  /** Connections that have not said what they want. */
  readonly #strangers = new Set<Connection>();
  /** Checks that are being answered. */
  readonly #checks = new Set<CheckAnswering>();
  readonly #admission: Admission;
  readonly #server = net.createServer();
  /** Where it listens, once it does. */
  #address: net.AddressInfo | undefined;

  constructor(options: RecvDaemonOptions, ownership: Ownership, crew: Crew) {
    super(ownership, new Guests(options, crew), options);
    this.#options = options;
    this.#crew = crew;
    this.#admission = new Admission(options.maxMigrations);
    this.#expiry = new ExpiryWatch(options.security.credentials);
    this.#renewEntrance = openEntrance(this.#server, {
      credentials: options.security.credentials,
      allowed: options.allowed,
      admission: this.#admission,
      onConnection: (visitor) => this.#connected(visitor),
    });
  }

  protected override recoverOne(entry: JournalEntry): void {
    const { migration: id, guest, hypervisor, peer } = entry;
    const tenure = this.ownership.records.recovered(guest, id, entry.epoch);
    const arrival: RecoveredArrival = new RecoveredArrival(entry, {
      ...this.contextOf({ id, guest, hypervisor, peer, tenure }),
      onChange: () => this.#changed(arrival),
    });
    this.#open.set(arrival.id, arrival);
    this.registry.add(arrival);
    void inBackground(arrival.id, arrival.restart());
  }

  #changed(arrival: Arrival): void {
    if (arrival.handover.state.name === 'ended') this.#open.delete(arrival.id);
    this.registry.changed(arrival);
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

  figures(): Figures {
    const figures = this.figuresOf(DESTINATION_STATES, this.#expiry.expiries);
    return { ...figures, refused: this.#admission.refused };
  }

  /** For whoever connects from here on. @throws GodwitError bad-option */
  reload(options: RecvDaemonOptions): void {
    const { security, allowed, maxMigrations } = options;
    const { credentials } = security;
    if ((credentials === undefined) !== (this.#options.security.credentials === undefined))
      throw new GodwitError('bad-option', 'TLS is turned on or off by a restart only');
    this.#options = options;
    this.#renewEntrance({ credentials, allowed });
    this.#admission.maxMigrations = maxMigrations;
    this.#expiry.watch(credentials);
  }

  /**
   * Gives up what does not run here yet and waits until that has ended. What the source still has
   * to say is left to the journal.
   */
  async stop(): Promise<void> {
    this.#server.close();
    this.#expiry.stop();
    const error = new GodwitError('shutting-down', 'agent-recv was told to stop');
    for (const stranger of this.#strangers) stranger.destroy(error);
    for (const check of this.#checks) check.end(error);
    this.#admission.close();
    const open = [...this.#open.values()];
    const live = open.filter((arrival) => arrival instanceof DestinationMigration);
    for (const arrival of open) {
      if (arrival instanceof DestinationMigration && arrival.cancellable) arrival.cancel(error);
      else arrival.leave();
    }
    await this.letEnd(Promise.all(live.map((arrival) => arrival.finished)));
    await this.#crew.stop();
    await this.ownership.close();
  }

  #connected({ socket, peer, fingerprint, refusal, stranger }: Visitor): void {
    const enter = (connection: Connection) => {
      this.#strangers.delete(connection);
      stranger.takenIn();
    };
    const address = socket.remoteAddress ?? 'unknown';
    const control = admit(socket, {
      peerTimeoutMs: this.#options.peerTimeoutMs,
      offer: (offer, connection, welcome) => {
        const turnedAway = (error: GodwitError) => {
          stranger.failed(error);
          this.#strangers.delete(connection);
        };
        // Until the guest is claimed the sender has nothing to say.
        connection.serve({
          onMessage: ({ kind }) => {
            throw new GodwitError('bad-message', `the sender sent ${kind} before Accept`);
          },
          onClose: (error = gone()) => turnedAway(error),
        });
        const identity = connection.peerIdentity;
        this.#offered(offer, connection, welcome, { peer, fingerprint, identity, address }).then(
          () => enter(connection),
          (thrown) => connection.destroy(asGodwitError(thrown)),
        );
      },
      rejoin: ({ migration, secret, received }, connection) => {
        const arrival = this.#known(migration, secret);
        if (!(arrival instanceof DestinationMigration)) throw notOpen(migration);
        arrival.rejoin(connection, received);
        enter(connection);
      },
      recover: (recover, connection) => {
        const known = this.#known(recover.migration, recover.secret);
        known.recover(connection);
        known.handover.tell({ type: 'recover' });
        enter(connection);
      },
      check: (check, connection, welcome) => {
        requireCheck(check, welcome);
        const leave = this.#admission.enterCheck(address);
        enter(connection); // from here on it counts as a check
        this.#answer(check, connection, { peer, fingerprint, leave });
      },
      onTurnedAway: (error) => {
        stranger.failed(error);
        this.#strangers.delete(control);
      },
    });
    this.#strangers.add(control);
    if (refusal) control.destroy(refusal);
  }

  async #offered(
    offer: GuestOffer,
    control: Connection,
    welcome: Welcome,
    from: Sender,
  ): Promise<void> {
    try {
      await this.#take(offer, control, welcome, from);
    } catch (thrown) {
      throw await this.#refused(thrown, offer, from, undefined);
    }
  }

  async #take(
    offer: GuestOffer,
    control: Connection,
    welcome: Welcome,
    from: Sender,
  ): Promise<void> {
    const { peer, fingerprint: senderFingerprint } = from;
    const { migration: id, guest, hypervisor, epoch } = offer;
    checkGuestOffer(offer); // its name becomes part of file names
    this.#admission.checkMigrations(this.#taken);
    if (this.#open.has(id) || this.registry.tryFind(id) || this.#claiming.has(id))
      throw new GodwitError('bad-message', `migration ${id} is known here already`);
    this.#claiming.add(id);
    try {
      const { deviceModel, regions } = offer;
      const { uuid } = this.guestsHere.outlineOf({ name: guest, hypervisor, deviceModel, regions });
      const tenure = await this.ownership.records.claim(guest, id, epoch, uuid);
      const { security, dataPorts, ramDir, peerTimeoutMs, reconnectTimeoutMs } = this.#options;
      const arrival: DestinationMigration = new DestinationMigration(offer, control, welcome, {
        ...this.contextOf({ id, guest, hypervisor, peer, tenure }),
        crew: this.#crew,
        peer,
        credentials: security.credentials,
        senderFingerprint,
        listenHost: this.#address!.address,
        dataPorts,
        ramDir,
        peerTimeoutMs,
        reconnectTimeoutMs,
        startGuest: async (description, bytes, known) => {
          try {
            return await this.#arrive(description, bytes, known, offer, from, arrival);
          } catch (thrown) {
            throw await this.#refused(thrown, offer, from, arrival);
          }
        },
        onChange: () => this.#changed(arrival),
      });
      this.#open.set(id, arrival);
      this.registry.add(arrival);
      arrival.begin();
    } finally {
      this.#claiming.delete(id);
    }
  }

  /** Starts the copy that gets the guest, on what is kept of its memory here if its sender makes use of that. */
  async #arrive(
    description: GuestDescription,
    bytes: number,
    known: (handle: string) => Promise<void>,
    { keptSecret }: GuestOffer,
    { identity }: Sender,
    arrival: DestinationMigration,
  ): Promise<DestinationGuest> {
    await this.guestsHere.requireHooks(description.hypervisor, description.name);
    const taken = this.kept.take(description, identity);
    try {
      if (keptSecret.length === 0) taken?.discard();
      const kept = keptSecret.length === 0 ? undefined : taken;
      const needed = bytes - (kept?.bytes ?? 0);
      this.kept.makeRoom(needed + this.#promisedBesides(arrival) + HOST_RESERVE);
      this.#checkMemory(needed, arrival);
      return await this.guestsHere.arrive(description, known, kept?.files);
    } finally {
      taken?.discard(); // what has not become the guest's
    }
  }

  /** An offer's refusal, with whatever else is in its way; that look is worth a check. */
  async #refused(
    thrown: unknown,
    offer: GuestOffer,
    { address }: Sender,
    arrival: DestinationMigration | undefined,
  ): Promise<GodwitError> {
    return withOthers(asGodwitError(thrown), async () => {
      const { guest: name, hypervisor, deviceModel, regions, verify } = offer;
      const outline = this.guestsHere.outlineOf({ name, hypervisor, deviceModel, regions });
      const leave = this.#admission.enterCheck(address);
      return this.#findingsOf(outline, verify, arrival).finally(leave);
    });
  }

  #answer(
    check: Check,
    control: Connection,
    { peer, fingerprint, leave }: { peer: string; fingerprint: string; leave: () => void },
  ): void {
    const { security, dataPorts, peerTimeoutMs } = this.#options;
    const answering: CheckAnswering = new CheckAnswering(check, control, {
      credentials: security.credentials,
      senderFingerprint: fingerprint,
      listenHost: this.#address!.address,
      dataPorts,
      peerTimeoutMs,
      findings: () => {
        const { guest: name, hypervisor, machine, memory: memoryBytes, verify } = check;
        const domain = check.domain === '' ? undefined : check.domain;
        const guest = { name, hypervisor, machine, memoryBytes, domain };
        return this.#findingsOf(guest, verify, undefined);
      },
      measureJournal: () => this.ownership.journal.measure(),
      onEnd: (error) => {
        leave();
        this.#checks.delete(answering);
        if (error) log('warn', `the check of guest ${check.guest} ended: ${error.message}`, peer);
      },
    });
    this.#checks.add(answering);
    void inBackground(`check of ${check.guest}`, answering.begin());
  }

  /**
   * What would keep `#take` from taking the guest, in the order in which it is asked.
   * @param arrival the migration that is to take it, when it is open: it is not in its own way
   */
  async #findingsOf(
    guest: GuestOutline,
    verify: boolean,
    arrival: DestinationMigration | undefined,
  ): Promise<readonly Finding[]> {
    const place = async () => [
      await lookAt('migrations', () => {
        this.#admission.checkMigrations(this.#taken);
        return `${this.#taken} of ${this.#options.maxMigrations}`;
      }),
      await lookAt('record', () => {
        this.ownership.records.requireFree(guest.name);
        return 'no migration of the guest is open here';
      }),
    ];
    return [
      ...(arrival === undefined ? await place() : []),
      await lookAt('memory', () => {
        this.#checkMemory(guest.memoryBytes - this.kept.bytes, arrival);
        return `there is room for ${formatSize(guest.memoryBytes)}`;
      }),
      ...(await this.guestsHere.canTake(guest, verify, this.kept.bytes)),
    ];
  }

  /** Migrations that need room here; one that only waits for its source's word does not. */
  get #taken(): number {
    const taking = [...this.#open.values()].filter(({ handover }) =>
      ['receiving', 'prepared'].includes(handover.state.name),
    );
    return taking.length + this.#claiming.size;
  }

  /** @throws GodwitError unknown-migration, also for a wrong secret */
  #known(id: string, secret: Uint8Array): Arrival {
    const migration = this.#open.get(id);
    if (migration?.secret.length !== secret.length || !timingSafeEqual(migration.secret, secret))
      throw notOpen(id);
    return migration;
  }

  /** Memory that is promised to other migrations and not filled yet is not free. */
  #checkMemory(bytes: number, arrival?: DestinationMigration): void {
    const free = process.availableMemory() - this.#promisedBesides(arrival) - HOST_RESERVE;
    if (bytes <= free) return;
    throw new GodwitError(
      'memory-insufficient',
      `the guest needs ${formatSize(bytes)} of memory, the destination has ${formatSize(Math.max(0, free))} to spare`,
    );
  }

  /** To other migrations. */
  #promisedBesides(arrival: DestinationMigration | undefined): number {
    return [...this.#open.values()]
      .filter((other) => other instanceof DestinationMigration && other !== arrival)
      .reduce((sum, other) => sum + (other as DestinationMigration).owedBytes, 0);
  }
}

function gone(): GodwitError {
  return new GodwitError('peer-closed', 'the connection was closed');
}

function notOpen(id: string): GodwitError {
  const text = `migration ${id} is not open here: it has ended or was never accepted`;
  return new GodwitError('unknown-migration', text);
}
