import fs from 'node:fs';
import { formatAddress } from '../lib/control/address.ts';
import { Agent } from '../lib/control/agent.ts';
import type { SenderBackend } from '../lib/control/backend.ts';
import { log } from '../lib/control/log.ts';
import { ControlServer } from '../lib/control/server.ts';
import type {
  GuestView,
  LimitsPatch,
  MigrationRequest,
  MigrationView,
} from '../lib/control/view.ts';
import { asGodwitError, GodwitError } from '../lib/errors.ts';
import type { Moment, SourceGuest } from '../lib/guest/guest.ts';
import { SOURCE_STATES } from '../lib/handover/source-machine.ts';
import { Journal, type JournalEntry } from '../lib/journal/journal.ts';
import { LedgerWriter, ledgerFile } from '../lib/report/ledger.ts';
import { dialControl } from './dial.ts';
import { Guests } from './guests.ts';
import type { SendDaemonOptions } from './options.ts';
import { RecoveredMigration } from './recovered.ts';
import { SendSession } from './session.ts';
import { Settlement } from './settlement.ts';

/** The sending daemon: starts migrations and shows them. */
export class SendDaemon extends Agent<SendSession | RecoveredMigration> implements SenderBackend {
  override readonly role = 'send';
  readonly #options: SendDaemonOptions;
  readonly #running = new Set<Promise<void>>();
  /** Names of guests that are being migrated. */
  readonly #busy = new Set<string>();
  /** Handovers that are being finished, by migration. */
  readonly #settling = new Map<string, Settlement>();
  readonly #journal: Journal;
  readonly #guests: Guests;
  #stopping = false;

  constructor(options: SendDaemonOptions, journal: Journal) {
    super();
    this.#options = options;
    this.#journal = journal;
    this.#guests = new Guests(options);
  }

  /** Takes up what an earlier run left open; the rest goes on in the background. */
  recover(): void {
    for (const entry of this.#journal.open) this.#recoverOne(entry);
  }

  #recoverOne(entry: JournalEntry): void {
    const migration = new RecoveredMigration(entry, {
      journal: this.#journal,
      attach: (name, handle) => this.#guests.attach(entry.hypervisor, name, handle),
      hook: (moment, { id }) => this.#hook(moment, entry.guest, id, entry.peer),
      ledgerFile: (id) => ledgerFile(this.#options.stateDir, id),
      onChange: (changed) => this.registry.changed(changed),
      log: (level, text, { id, guestName }) => log(level, text, `${id} ${guestName}`),
    });
    this.registry.add(migration);
    this.#inBackground(this.#finishRecovery(migration));
  }

  #hook(moment: Moment, guest: string, migration: string, peer: string): Promise<void> {
    return this.#guests.hook(moment, { guest, migration, side: 'source', peer });
  }

  async #finishRecovery(migration: RecoveredMigration): Promise<void> {
    await migration
      .restart()
      .catch((error) => log('error', asGodwitError(error).message, migration.id));
    await this.#settle(migration);
    migration.close();
  }

  /** Resolves when the destination has been told, or the daemon stops. */
  async #settle(migration: SendSession | RecoveredMigration): Promise<void> {
    const { id, handover, secret } = migration;
    // Never accepted: no destination knows of it.
    if (secret.length === 0) await handover.dispatch({ type: 'forgotten' });
    if (this.#stopping || this.#settling.has(id) || handover.state.name === 'ended') return;
    const { peerTimeoutMs, connectTimeoutMs, security } = this.#options;
    const settlement = new Settlement({
      handover,
      migration: id,
      secret,
      dial: async () => {
        const { host, port } = migration;
        const limits = { channels: 1, peerTimeoutMs, connectTimeoutMs };
        return (await dialControl({ host, port, security, ...limits })).control;
      },
      onWaiting: (reason) => migration.waiting(reason),
    });
    this.#settling.set(id, settlement);
    await settlement.run();
    this.#settling.delete(id);
  }

  #inBackground(work: Promise<void>): void {
    const run = work.finally(() => this.#running.delete(run));
    this.#running.add(run);
  }

  /** The way is open again: the peer may have something to be told now. */
  protected override resolved(migration: SendSession | RecoveredMigration): void {
    const settlement = this.#settling.get(migration.id);
    if (settlement) return settlement.hurry();
    this.#inBackground(this.#settle(migration).then(() => migration.close()));
  }

  /** Resolves when the migration has begun. @throws GodwitError unknown-guest, guest-busy, … */
  async start(request: MigrationRequest): Promise<MigrationView> {
    if (this.#stopping) throw new GodwitError('shutting-down', 'agent-send is shutting down');
    const name = request.guest;
    if (this.#busy.has(name))
      throw new GodwitError('guest-busy', `guest ${name} is being migrated already`);
    this.#busy.add(name);
    try {
      const guest = await this.#guests.connect(name);
      const session = this.#open(request, guest);
      this.registry.add(session);
      this.#inBackground(this.#run(session, name));
      return session.view();
    } catch (error) {
      this.#busy.delete(name);
      throw error;
    }
  }

  async #run(session: SendSession, name: string): Promise<void> {
    try {
      await session.run();
    } finally {
      this.#busy.delete(name);
    }
    await this.#settle(session);
    session.close();
  }

  #open(request: MigrationRequest, guest: SourceGuest) {
    const { stateDir, channels, peerTimeoutMs, connectTimeoutMs, reconnectTimeoutMs } =
      this.#options;
    try {
      return new SendSession(request, guest, {
        channels,
        peerTimeoutMs,
        connectTimeoutMs,
        reconnectTimeoutMs,
        security: this.#options.security,
        journal: this.#journal,
        attach: (name, handle) => this.#guests.attach(guest.description.hypervisor, name, handle),
        hook: (moment, { id, host, port }) =>
          this.#hook(moment, request.guest, id, formatAddress(host, port)),
        settle: (session) => this.#settle(session),
        ledger: (id) =>
          new LedgerWriter(ledgerFile(stateDir, id), (error) => log('warn', error.message, id)),
        onChange: (session) => this.registry.changed(session),
        log: (level, text, session) => log(level, text, `${session.id} ${request.guest}`),
      });
    } catch (error) {
      guest.close();
      throw error;
    }
  }

  change(id: string, patch: LimitsPatch): MigrationView {
    return this.act(id, (session) => live(session).change(patch));
  }

  cutover(id: string): MigrationView {
    return this.act(id, (session) => live(session).cutover());
  }

  guests(): Promise<GuestView[]> {
    return this.#guests.list(this.#busy);
  }

  ledgerFile(id: string): string {
    const known = this.registry.tryFind(id)?.id;
    const { stateDir } = this.#options;
    if (known) return ledgerFile(stateDir, known);
    // Of an earlier run of the daemon: by a prefix that only one ledger has.
    const dir = ledgerFile(stateDir, 'x').replace(/x\.ndjson$/, '');
    const names = fs.existsSync(dir) ? fs.readdirSync(dir) : [];
    const [found, ...more] = names.filter((name) => name.startsWith(id));
    if (!found || more.length > 0 || id === '')
      throw new GodwitError('unknown-migration', `no migration "${id}" in ${dir}`);
    return ledgerFile(stateDir, found.replace(/\.ndjson$/, ''));
  }

  /**
   * Cancels what has not been committed and waits until that has ended. What the destination still
   * has to say is left to the journal.
   */
  async stop(): Promise<void> {
    this.#stopping = true;
    const error = new GodwitError('shutting-down', 'agent-send was told to stop');
    for (const session of this.registry.all())
      if (session instanceof SendSession && session.cancellable) session.cancel(error);
    for (const settlement of this.#settling.values()) settlement.stop();
    await Promise.all(this.#running);
    await this.#journal.close();
  }
}

/** @throws GodwitError too-late */
function live(migration: SendSession | RecoveredMigration): SendSession {
  if (migration instanceof SendSession) return migration;
  throw new GodwitError('too-late', 'this migration is being recovered; see resolve');
}

/** Starts the daemon; it serves its control socket until `stop`. */
export async function startSendDaemon(options: SendDaemonOptions) {
  const journal = await Journal.open(options.stateDir, SOURCE_STATES);
  const daemon = new SendDaemon(options, journal);
  let server: ControlServer;
  try {
    server = await ControlServer.open(options.socket, daemon);
  } catch (error) {
    await journal.close();
    throw error;
  }
  daemon.recover();
  const status = `control socket ${options.socket}, guests in ${options.guestDir}`;
  log('info', `agent-send ready: ${status}`);
  return {
    status,
    stop: async () => {
      await daemon.stop();
      await server.close();
    },
  };
}
