import type { AgentBackend } from '../api/backend.ts';
import type { Figures } from '../api/metrics.ts';
import { asGodwitError, GodwitError } from '../errors.ts';
import type { Guests } from '../guest/guests.ts';
import { KeptMemory, type KeptMemoryPlaces } from '../guest/kept-memory.ts';
import { log } from '../log.ts';
import { type Begun, contextOf } from '../migration/context.ts';
import { endInWords } from '../migration/standing.ts';
import type { MigrationView } from '../migration/view.ts';
import { type Choice, type Dilemma, sourceDilemma } from '../ownership/decision.ts';
import type { JournalEntry } from '../ownership/journal/journal.ts';
import type { Ownership } from '../ownership/ownership.ts';
import { within } from '../poll.ts';
import { projectVersion } from '../version.ts';
import type { Expiry } from '../wire/certificates.ts';
import { inBackground } from './background.ts';
import { FenceWatch, type Watched } from './fence-watch.ts';
import { Registry } from './registry.ts';

const VERSION = projectVersion();

/** How long an agent that stops waits for a hypervisor or a peer, ms. */
const STOP_LIMIT_MS = 20_000;

interface Managed {
  readonly id: string;
  view(): MigrationView;
  /** @throws GodwitError too-late */
  cancel(): void;
  /** Undefined before there is anything to hand over. */
  readonly handover: (Resolvable & NonNullable<Watched['handover']>) | undefined;
}

interface Resolvable {
  /** The agent stops: what is owed is left to the journal. */
  stop(): void;
  readonly dilemma: Dilemma;
  /** @throws GodwitError too-late, journal-failed */
  resolve(choice: Choice, by: string): Promise<void>;
}

interface AgentOptions extends KeptMemoryPlaces {
  /** Names of hosts in the cluster, by their addresses; none: it is not asked. */
  readonly clusterNodes: ReadonlyMap<string, string>;
}

/** What both daemons show of their migrations and let be done to them. */
export abstract class Agent<Migration extends Managed> implements AgentBackend {
  abstract readonly role: AgentBackend['role'];
  protected readonly registry = new Registry<Migration>();
  protected readonly ownership: Ownership;
  protected readonly guestsHere: Guests;
  /** Memory of guests that have left. */
  protected readonly kept: KeptMemory;
  readonly #fences: FenceWatch;

  constructor(ownership: Ownership, guests: Guests, options: AgentOptions) {
    this.ownership = ownership;
    this.guestsHere = guests;
    this.kept = new KeptMemory(options);
    this.#fences = new FenceWatch({
      nodes: options.clusterNodes,
      migrations: () => this.registry.all(),
    });
  }

  /** Takes up what an earlier run left open: known when this returns, finished in the background. */
  recover(): void {
    for (const entry of this.ownership.journal.open) this.recoverOne(entry);
    void inBackground('orphans', this.#removeOrphans());
    this.kept.watch();
  }

  protected abstract recoverOne(entry: JournalEntry): void;

  /** What a migration is lent. */
  protected contextOf(begun: Omit<Begun, 'side'>) {
    const side = this.role === 'send' ? 'source' : 'destination';
    return contextOf(this.ownership.journal, this.guestsHere, { ...begun, side });
  }

  async #removeOrphans(): Promise<void> {
    const removed = await this.guestsHere.removeOrphans((name) => this.ownership.isOpen(name));
    for (const file of removed) log('info', `removed ${file}: what had made it is gone`);
  }

  list(): MigrationView[] {
    return this.registry.views();
  }

  show(id: string): MigrationView {
    return this.registry.find(id).view();
  }

  cancel(id: string): MigrationView {
    return this.act(id, (migration) => migration.cancel());
  }

  dilemma(id: string): Dilemma {
    const migration = this.registry.find(id);
    const dilemma = migration.handover?.dilemma ?? sourceDilemma('ended');
    const end = endInWords(migration.view());
    const isOpen = end === undefined || Object.keys(dilemma.choices).length > 0;
    return isOpen ? this.#fences.tell(migration.id, dilemma) : { ...dilemma, proves: end };
  }

  /** @throws GodwitError too-late, journal-failed */
  async resolve(id: string, choice: Choice, by: string): Promise<MigrationView> {
    const migration = this.registry.find(id);
    if (migration.handover === undefined)
      throw new GodwitError('too-late', 'there is nothing to decide about this migration');
    const { guest, waitsFor } = migration.view();
    const about = `${migration.id} ${guest}`;
    const waited = waitsFor === undefined ? '' : ` It waited for ${waitsFor}.`;
    log('warn', `${by} decides --${choice}. ${migration.handover.dilemma.proves}${waited}`, about);
    try {
      await migration.handover.resolve(choice, by);
    } catch (thrown) {
      log('error', `what ${by} decided fails: ${asGodwitError(thrown).message}`, about);
      throw thrown;
    }
    this.resolved(migration);
    return migration.view();
  }

  /** A person has decided about its handover. */
  protected resolved(_session: Migration): void {}

  /** Waits for work as long as it may take when the agent stops; the rest is left to the journal. */
  protected async letEnd(work: Promise<unknown>): Promise<void> {
    this.#fences.stop();
    this.kept.stop();
    const late = () => new GodwitError('shutting-down', 'it is left to the journal');
    await within(STOP_LIMIT_MS, work, late).catch((thrown) => {
      log('warn', `something does not end: ${asGodwitError(thrown).message}`);
    });
    for (const migration of this.registry.all()) migration.handover?.stop();
  }

  watch(id: string, listener: (view: MigrationView) => void): () => void {
    return this.registry.watch(this.registry.find(id).id, listener);
  }

  abstract figures(): Figures;

  /** Those that both agents have. */
  protected figuresOf(states: readonly string[], expiries: readonly Expiry[]) {
    const { role } = this;
    return { role, version: VERSION, tally: this.registry.tally, states, expiries };
  }

  /** Does something to one migration and shows it as it is then. */
  protected act(id: string, action: (migration: Migration) => void): MigrationView {
    const migration = this.registry.find(id);
    action(migration);
    return migration.view();
  }
}
