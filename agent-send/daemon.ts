import fs from 'node:fs';
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
import { connectSimulatedSource, simulatedGuestNames } from '../lib/guest/simulated/source.ts';
import { PAGE_SIZE } from '../lib/memory/guest-layout.ts';
import { LedgerWriter, ledgerFile } from '../lib/report/ledger.ts';
import type { SendDaemonOptions } from './options.ts';
import { SendSession } from './session.ts';

/** The sending daemon: starts migrations and shows them. */
export class SendDaemon extends Agent<SendSession> implements SenderBackend {
  override readonly role = 'send';
  readonly #options: SendDaemonOptions;
  readonly #running = new Set<Promise<void>>();
  /** Names of guests that are being migrated. */
  readonly #busy = new Set<string>();
  #stopping = false;

  constructor(options: SendDaemonOptions) {
    super();
    this.#options = options;
  }

  /** Resolves when the migration has begun. @throws GodwitError unknown-guest, guest-busy, … */
  async start(request: MigrationRequest): Promise<MigrationView> {
    if (this.#stopping) throw new GodwitError('shutting-down', 'agent-send is shutting down');
    const name = request.guest;
    if (this.#busy.has(name))
      throw new GodwitError('guest-busy', `guest ${name} is being migrated already`);
    this.#busy.add(name);
    try {
      const guest = await connectSimulatedSource(this.#options.guestDir, name);
      const session = this.#open(request, guest);
      this.registry.add(session);
      const run = session.run().finally(() => {
        this.#busy.delete(name);
        this.#running.delete(run);
      });
      this.#running.add(run);
      return session.view();
    } catch (error) {
      this.#busy.delete(name);
      throw error;
    }
  }

  #open(request: MigrationRequest, guest: Awaited<ReturnType<typeof connectSimulatedSource>>) {
    const { stateDir, channels, peerTimeoutMs, connectTimeoutMs } = this.#options;
    try {
      return new SendSession(request, guest, {
        channels,
        peerTimeoutMs,
        connectTimeoutMs,
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
    return this.act(id, (session) => session.change(patch));
  }

  cutover(id: string): MigrationView {
    return this.act(id, (session) => session.cutover());
  }

  async guests(): Promise<GuestView[]> {
    const names = await simulatedGuestNames(this.#options.guestDir);
    const views = await Promise.all(names.map((name) => this.#guestView(name)));
    return views.filter((view) => view !== undefined);
  }

  async #guestView(name: string): Promise<GuestView | undefined> {
    if (this.#busy.has(name))
      return { name, hypervisor: 'simulated', status: 'migrating', memoryBytes: 0 };
    try {
      const guest = await connectSimulatedSource(this.#options.guestDir, name);
      const pages = guest.description.regions.reduce((sum, { pages }) => sum + pages, 0);
      guest.close();
      return { name, hypervisor: 'simulated', status: 'running', memoryBytes: pages * PAGE_SIZE };
    } catch (error) {
      const { code } = asGodwitError(error);
      if (code !== 'guest-not-running') return undefined; // a socket that a dead VMM left
      return { name, hypervisor: 'simulated', status: 'suspended', memoryBytes: 0 };
    }
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

  /** Cancels what has not been committed and waits until everything has ended. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const error = new GodwitError('shutting-down', 'agent-send was told to stop');
    for (const session of this.registry.all()) if (session.cancellable) session.cancel(error);
    await Promise.all(this.#running);
  }
}

/** Starts the daemon; it serves its control socket until `stop`. */
export async function startSendDaemon(options: SendDaemonOptions) {
  const daemon = new SendDaemon(options);
  const server = await ControlServer.open(options.socket, daemon);
  log('info', `agent-send ready: control socket ${options.socket}, guests in ${options.guestDir}`);
  return {
    stop: async () => {
      await daemon.stop();
      await server.close();
    },
  };
}
