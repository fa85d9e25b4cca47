import { needsResolve, troubleOf } from '../api/health.ts';
import { Tally } from '../api/tally.ts';
import { GodwitError } from '../errors.ts';
import { log } from '../log.ts';
import type { MigrationView } from '../migration/view.ts';

/** Ended migrations that a daemon still shows; older ones are in their ledgers. */
const KEEP_ENDED = 100;
/** A watcher hears of changes at most this often, and of the end at once. */
const NOTIFY_MS = 100;

interface Shown {
  readonly id: string;
  view(): MigrationView;
}

/** The migrations of a daemon, the oldest first, and who watches them. */
export class Registry<Migration extends Shown> {
  readonly #migrations: Migration[] = [];
  readonly #watchers = new Map<string, Set<(view: MigrationView) => void>>();
  readonly #notifying = new Map<string, NodeJS.Timeout>();
  readonly tally = new Tally();
  readonly #counted = new WeakSet<Migration>();
  /** Those that wait for a person, which has been said. */
  readonly #stuck = new WeakSet<Migration>();

  add(migration: Migration): void {
    this.#migrations.push(migration);
    const ended = this.#migrations.filter((one) => one.view().phase === 'ended');
    for (const old of ended.slice(0, Math.max(0, ended.length - KEEP_ENDED)))
      this.#migrations.splice(this.#migrations.indexOf(old), 1);
  }

  all(): readonly Migration[] {
    return this.#migrations;
  }

  views(): MigrationView[] {
    return this.#migrations.map((migration) => migration.view());
  }

  /** By id or by a prefix that only one has. */
  tryFind(id: string): Migration | undefined {
    const found = this.#migrations.filter((migration) => migration.id.startsWith(id));
    return id !== '' && found.length === 1 ? found[0] : undefined;
  }

  /** @throws GodwitError unknown-migration, ambiguous-id */
  find(id: string): Migration {
    const found = this.tryFind(id);
    if (found) return found;
    const alike = this.#migrations.filter((one) => id !== '' && one.id.startsWith(id));
    if (alike.length > 1)
      throw ambiguous(
        id,
        alike.map((one) => `${one.id} (${one.view().guest})`),
      );
    throw new GodwitError('unknown-migration', `no migration "${id}"; see list`);
  }

  /** Calls back now, on changes, and a last time at the end. Returns the way out. */
  watch(id: string, listener: (view: MigrationView) => void): () => void {
    const view = this.find(id).view();
    const listeners = this.#watchers.get(id) ?? new Set();
    this.#watchers.set(id, listeners.add(listener));
    listener(view);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.#watchers.delete(id);
    };
  }

  /** A migration tells that something about it is new. */
  changed(migration: Migration): void {
    const { id } = migration;
    // A connection that never became a migration has no place here.
    if (!this.#migrations.includes(migration) || this.#counted.has(migration)) return;
    const view = migration.view();
    const { phase } = view;
    this.#alarm(migration, view);
    if (phase === 'ended') {
      this.#counted.add(migration);
      this.tally.add(view);
      clearTimeout(this.#notifying.get(id));
      this.#notify(migration);
    } else if (this.#watchers.has(id) && !this.#notifying.has(id)) {
      this.#notifying.set(
        id,
        setTimeout(() => this.#notify(migration), NOTIFY_MS),
      );
    }
  }

  /** Nothing here goes on without a person: that is said once, and again if it comes again. */
  #alarm(migration: Migration, view: MigrationView): void {
    if (!needsResolve(view)) return void this.#stuck.delete(migration);
    if (this.#stuck.has(migration)) return;
    this.#stuck.add(migration);
    const { id, guest, role } = view;
    const agent = role === 'send' ? 'agent-send' : 'agent-recv';
    log('error', `needs resolve: ${troubleOf(view)}; see ${agent} resolve ${id}`, `${id} ${guest}`);
  }

  #notify(migration: Migration): void {
    this.#notifying.delete(migration.id);
    for (const listener of this.#watchers.get(migration.id) ?? []) listener(migration.view());
  }
}

/** Candidates that are named; there may be thousands. */
const NAMED = 5;

/** The beginning of an id that several have. */
export function ambiguous(id: string, candidates: readonly string[]): GodwitError {
  const named = candidates.slice(-NAMED).reverse().join(', ');
  const more = candidates.length > NAMED ? ` and ${candidates.length - NAMED} more` : '';
  const text = `"${id}" begins the ids of ${candidates.length} migrations: ${named}${more}`;
  return new GodwitError('ambiguous-id', text);
}
