import { randomBytes } from 'node:crypto';
import type { SenderBackend } from '../lib/api/backend.ts';
import type { Figures } from '../lib/api/metrics.ts';
import type { Crew } from '../lib/crew/crew.ts';
import { Agent } from '../lib/daemon/agent.ts';
import { inBackground } from '../lib/daemon/background.ts';
import { ExpiryWatch } from '../lib/daemon/expiry.ts';
import { Ledgers } from '../lib/daemon/ledgers.ts';
import { Profiles } from '../lib/daemon/profiles.ts';
import { undoChanges } from '../lib/daemon/undo-changes.ts';
import { asGodwitError, GodwitError } from '../lib/errors.ts';
import { Evacuations } from '../lib/evacuation/evacuations.ts';
import type { EvacuationStore } from '../lib/evacuation/store.ts';
import type { Finding } from '../lib/finding.ts';
import type { GuestDescription, SourceGuest } from '../lib/guest/guest.ts';
import { Guests, requireTerms } from '../lib/guest/guests.ts';
import type { Guest } from '../lib/guest/hypervisor.ts';
import type { Profiling } from '../lib/guest/profile.ts';
import type { Recalls } from '../lib/guest/recall/recalls.ts';
import { log } from '../lib/log.ts';
import type { RegionFile } from '../lib/memory/guest-layout.ts';
import { withOthers } from '../lib/migration/check/refusal.ts';
import { inTheWay, runCheck } from '../lib/migration/check/run.ts';
import type { CheckView } from '../lib/migration/check/view.ts';
import type { Experiences } from '../lib/migration/experiences.ts';
import { RecoveredDeparture } from '../lib/migration/recovered.ts';
import type { Turn } from '../lib/migration/source/basis.ts';
import { SourceMigration } from '../lib/migration/source.ts';
import type {
  GuestView,
  LimitsPatch,
  MigrationRequest,
  MigrationView,
} from '../lib/migration/view.ts';
import type { Tenure } from '../lib/ownership/guest-record.ts';
import type { JournalEntry } from '../lib/ownership/journal/journal.ts';
import type { Ownership } from '../lib/ownership/ownership.ts';
import { Settlement } from '../lib/ownership/settlement.ts';
import { SOURCE_STATES } from '../lib/ownership/source-machine.ts';
import type { GuestProfile } from '../lib/precopy/profile.ts';
import type { Caps } from '../lib/precopy/suspension-rate.ts';
import {
  type ForetoldRecord,
  foretoldRecords,
  type TrackRecord,
  trackRecords,
} from '../lib/precopy/track-record.ts';
import type { HistoryFilter, PastMigration } from '../lib/report/history.ts';
import { LedgerWriter, ledgerFile } from '../lib/report/ledger.ts';
import { newestProfile } from '../lib/report/profile-file.ts';
import { formatDuration } from '../lib/units.ts';
import { formatAddress } from '../lib/wire/address.ts';
import { dialControl } from '../lib/wire/dial.ts';
import { siteOf } from './evacuation-site.ts';
import type { SendDaemonOptions } from './options.ts';

/** Between looks for ledgers that are too old or too many, ms. */
const PRUNE_MS = 3_600_000;

type Departure = SourceMigration | RecoveredDeparture;

/** The sending daemon: starts migrations and shows them. */
export class SendDaemon extends Agent<Departure> implements SenderBackend {
  override readonly role = 'send';
  #options: SendDaemonOptions;
  readonly #expiry: ExpiryWatch;
  #pruning: NodeJS.Timeout | undefined;
  readonly #experiences: Experiences;
  readonly #threads: Threads;
  readonly #running = new Set<Promise<void>>();
  readonly #profiles: Profiles;
  readonly #ledgers: Ledgers;
  readonly evacuations: Evacuations;
  /** Handovers that are being finished, by migration. */
  readonly #settling = new Map<string, Settlement>();
  #stopping = false;

  constructor(
    options: SendDaemonOptions,
    ownership: Ownership,
    experiences: Experiences,
    threads: Threads,
    evacuations: EvacuationStore,
  ) {
    super(ownership, new Guests(options, threads.crew), options);
    this.#options = options;
    this.#threads = threads;
    this.#expiry = new ExpiryWatch(options.security.credentials);
    this.#experiences = experiences;
    this.#profiles = new Profiles(options.stateDir, this.guestsHere, ownership.records);
    this.#ledgers = new Ledgers(options.stateDir, {
      ids: () => this.registry.all().map(({ id }) => id),
      isOpen: (id) => this.#isOpen(id),
    });
    const site = siteOf(this, options.stateDir, {
      inTheWay: async (request) =>
        this.#inTheWay(request, await this.guestsHere.find(request.guest)),
      steer: (id, caps) => this.#steer(id, caps),
    });
    this.evacuations = new Evacuations(evacuations, site);
  }

  override recover(): void {
    super.recover();
    const { records } = this.ownership;
    const isOver = () => this.#stopping;
    void inBackground('settings', undoChanges(this.guestsHere, records, isOver));
    const prune = () => inBackground('ledgers', this.#ledgers.prune(this.#options.retention));
    void prune();
    this.evacuations.resume();
    this.#pruning = setInterval(prune, PRUNE_MS).unref();
  }

  protected override recoverOne(entry: JournalEntry): void {
    const { migration: id, guest, hypervisor, peer } = entry;
    const tenure = this.ownership.records.recovered(guest, id, entry.epoch);
    const context = this.contextOf({ id, guest, hypervisor, peer, tenure });
    const file = ledgerFile(this.#options.stateDir, id);
    const departure: RecoveredDeparture = new RecoveredDeparture(
      entry,
      { ...context, onChange: () => this.registry.changed(departure) },
      file,
    );
    this.registry.add(departure);
    this.#goesOn(departure, departure.restart());
  }

  /** After the work on this host the destination is told, in the background. */
  #goesOn(departure: Departure, work: Promise<void>): void {
    const run = inBackground(
      departure.id,
      inBackground(departure.id, work)
        .then(() => this.#settle(departure))
        .then(() => departure.close()),
    ).finally(() => this.#running.delete(run));
    this.#running.add(run);
  }

  /** Resolves when the destination has been told, or the daemon stops. */
  async #settle(departure: Departure): Promise<void> {
    const { id, handover, secret } = departure;
    // Never accepted: no destination knows of it.
    if (secret.length === 0) await handover.hearForgotten();
    if (this.#stopping || this.#settling.has(id) || handover.state.name === 'ended') return;
    const settlement = new Settlement({
      handover,
      migration: id,
      secret,
      dial: async () => {
        const { host, port } = departure;
        const { peerTimeoutMs, connectTimeoutMs, security } = this.#options; // as they are by then
        const limits = { lanes: 1, peerTimeoutMs, connectTimeoutMs };
        return (await dialControl({ host, port, security, ...limits })).control;
      },
      onWaiting: (reason) => departure.waiting(reason),
    });
    this.#settling.set(id, settlement);
    await settlement.run();
    this.#settling.delete(id);
  }

  /** The way is open again: the peer may have something to be told now. */
  protected override resolved(departure: Departure): void {
    const settlement = this.#settling.get(departure.id);
    if (settlement) return settlement.hurry();
    this.#goesOn(departure, Promise.resolve());
  }

  /** For what begins from here on. */
  reload(options: SendDaemonOptions): void {
    this.#options = options;
    this.#expiry.watch(options.security.credentials);
  }

  /**
   * Resolves when the migration has begun.
   * @param turn to be suspended, where others want it, too
   * @throws GodwitError unknown-guest, guest-busy, …
   */
  async start(request: MigrationRequest, turn?: Turn): Promise<MigrationView> {
    if (this.#stopping) throw new GodwitError('shutting-down', 'agent-send is shutting down');
    const id = randomBytes(8).toString('hex');
    const found = await this.guestsHere.find(request.guest);
    requireTerms(found, request);
    try {
      await this.guestsHere.requireHooks(found.hypervisor, found.name);
      return await this.#begin(id, request, found, turn);
    } catch (thrown) {
      throw await withOthers(asGodwitError(thrown), () => this.#inTheWay(request, found));
    }
  }

  #inTheWay(request: MigrationRequest, found: Guest): Promise<readonly Finding[]> {
    const lent = { guests: this.guestsHere, records: this.ownership.records };
    return inTheWay(request, found, { ...this.#options, ...lent });
  }

  #steer(id: string, caps: Required<Caps>): void {
    const departure = this.registry.tryFind(id);
    if (departure instanceof SourceMigration) departure.steer(caps);
  }

  async #begin(
    id: string,
    request: MigrationRequest,
    found: Guest,
    turn: Turn | undefined,
  ): Promise<MigrationView> {
    const tenure = await this.ownership.records.claim(request.guest, id, 1, found.uuid);
    let guest: SourceGuest | undefined;
    try {
      guest = await found.openSource(request);
      const migration = this.#open(id, request, guest, tenure, turn);
      this.registry.add(migration);
      this.#goesOn(migration, migration.run(guest));
      return migration.view();
    } catch (error) {
      guest?.close();
      await tenure.rest().catch(() => tenure.leave()); // swept later, then
      throw error;
    }
  }

  #open(
    id: string,
    request: MigrationRequest,
    guest: SourceGuest,
    tenure: Tenure,
    turn: Turn | undefined,
  ): SourceMigration {
    const { stateDir, ramDir, lanes, peerTimeoutMs, connectTimeoutMs } = this.#options;
    const { reconnectTimeoutMs, security, keepMemoryMs } = this.#options;
    const { hypervisor } = guest.description;
    const peer = formatAddress(request.host, request.port);
    const migration: SourceMigration = new SourceMigration(id, request, guest, {
      ...this.contextOf({ id, guest: request.guest, hypervisor, peer, tenure }),
      machine: this.guestsHere.outlineOf(guest.description).machine,
      ramDir,
      lanes,
      peerTimeoutMs,
      connectTimeoutMs,
      reconnectTimeoutMs,
      security,
      experiences: this.#experiences,
      profile: (name) => newestProfile(stateDir, name),
      crew: this.#threads.crew,
      recalls: this.#threads.recalls,
      turn,
      keepMemory:
        keepMemoryMs > 0
          ? (memory, heir) => this.#keepMemory(guest.description, memory, heir, keepMemoryMs)
          : undefined,
      settle: () => this.#settle(migration),
      ledger: () =>
        new LedgerWriter(ledgerFile(stateDir, id), (error) => log('error', error.message, id)),
      onChange: () => this.registry.changed(migration),
    });
    return migration;
  }

  /** The guest has moved, and its process here has ended. */
  #keepMemory(
    guest: GuestDescription,
    memory: readonly RegionFile[],
    heir: string,
    forMs: number,
  ): void {
    try {
      this.kept.keep(guest, memory, { heir, forMs });
      const long = formatDuration(forMs);
      log('info', `its memory is kept here for its return, for ${long}`, guest.name);
    } catch (thrown) {
      log('warn', asGodwitError(thrown).message, guest.name);
    }
  }

  check(request: MigrationRequest): Promise<CheckView> {
    const { records, journal } = this.ownership;
    const lent = { guests: this.guestsHere, records, journal, experiences: this.#experiences };
    return runCheck(request, { ...this.#options, ...lent });
  }

  change(id: string, patch: LimitsPatch): MigrationView {
    return this.act(id, (departure) => live(departure).change(patch));
  }

  cutover(id: string, force: boolean): MigrationView {
    return this.act(id, (departure) => live(departure).cutover(force));
  }

  trackRecords(): TrackRecord[] {
    return trackRecords(this.#experiences.all);
  }

  foretoldRecords(): ForetoldRecord[] {
    return foretoldRecords(this.#experiences.moves);
  }

  figures(): Figures {
    return { ...this.figuresOf(SOURCE_STATES, this.#expiry.expiries), refused: undefined };
  }

  async guests(): Promise<GuestView[]> {
    const busy = new Map<string, string>();
    for (const departure of this.registry.all())
      if (departure instanceof SourceMigration && departure.view().phase !== 'ended')
        busy.set(departure.view().guest, departure.handover.entry.hypervisor);
    const migrating = [...busy].map(([name, hypervisor]) => {
      return { name, hypervisor, trouble: 'migrating' };
    });
    const here = [...migrating, ...this.#profiles.lines];
    const others = await this.guestsHere.list(new Set(here.map(({ name }) => name)));
    return [...here, ...others].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  async profile(guest: string, profiling: Profiling): Promise<GuestProfile> {
    if (this.#stopping) throw new GodwitError('shutting-down', 'agent-send is shutting down');
    return this.#profiles.take(guest, profiling);
  }

  endProfile(guest: string): void {
    this.#profiles.end(guest);
  }

  newestProfile(guest: string): GuestProfile {
    const profile = newestProfile(this.#options.stateDir, guest);
    if (profile !== undefined) return profile;
    throw new GodwitError('unknown-profile', `no profile of guest ${guest} is kept; take one`);
  }

  ledgerFile(id: string): Promise<string> {
    return this.#ledgers.file(id);
  }

  history(filter: HistoryFilter): Promise<PastMigration[]> {
    return this.#ledgers.history(filter);
  }

  #isOpen(id: string): boolean {
    const shown = this.registry.all().find((one) => one.id === id);
    const isShown = shown !== undefined && shown.view().phase !== 'ended';
    return isShown || this.ownership.journal.entry(id) !== undefined;
  }

  /**
   * Cancels what has not been committed and waits until that has ended, as far as it does. What is
   * still owed to a guest or to a destination is left to the journal.
   */
  async stop(): Promise<void> {
    this.#stopping = true;
    const evacuated = this.evacuations.stop(); // before migrations end that it has begun
    this.#expiry.stop();
    clearInterval(this.#pruning);
    const error = new GodwitError('shutting-down', 'agent-send was told to stop');
    for (const departure of this.registry.all())
      if (departure instanceof SourceMigration && departure.cancellable) departure.cancel(error);
    for (const settlement of this.#settling.values()) settlement.stop();
    const ended = Promise.all([...this.#running, this.#profiles.endAll(error), evacuated]);
    await this.letEnd(ended.then(() => this.#experiences.idle()));
    await stopThreads(this.#threads);
    await this.ownership.close();
  }
}

/** Every thread that migrations need, there before the first. */
export interface Threads {
  readonly crew: Crew;
  readonly recalls: Recalls;
}

export async function stopThreads({ crew, recalls }: Threads): Promise<void> {
  await Promise.all([crew.stop(), recalls.stop()]);
}

/** @throws GodwitError too-late */
function live(migration: Departure): SourceMigration {
  if (migration instanceof SourceMigration) return migration;
  throw new GodwitError('too-late', 'this migration is being recovered; see resolve');
}
