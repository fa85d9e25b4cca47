import { GodwitError } from '../errors.ts';
import type { MigrationView } from './view.ts';

/** Ended migrations that a daemon still shows; older ones are in their ledgers. */
const KEEP_ENDED = 100;
/** A watcher hears of changes at most this often, and of the end at once. */
const NOTIFY_MS = 100;

interface Shown {
  readonly id: string;
  view(): MigrationView;
}

/** The migrations of a daemon, the oldest first, and who watches them. */
export class Registry<Session extends Shown> {
  readonly #sessions: Session[] = [];
  readonly #watchers = new Map<string, Set<(view: MigrationView) => void>>();
  readonly #notifying = new Map<string, NodeJS.Timeout>();
  readonly #ended: Record<string, number> = {};
  readonly #counted = new WeakSet<Session>();

  add(session: Session): void {
    this.#sessions.push(session);
    const ended = this.#sessions.filter((s) => s.view().phase === 'ended');
    for (const old of ended.slice(0, Math.max(0, ended.length - KEEP_ENDED)))
      this.#sessions.splice(this.#sessions.indexOf(old), 1);
  }

  all(): readonly Session[] {
    return this.#sessions;
  }

  views(): MigrationView[] {
    return this.#sessions.map((session) => session.view());
  }

  /** By id or by a prefix that only one has. */
  tryFind(id: string): Session | undefined {
    const found = this.#sessions.filter((session) => session.id.startsWith(id));
    return id !== '' && found.length === 1 ? found[0] : undefined;
  }

  /** @throws GodwitError unknown-migration */
  find(id: string): Session {
    const found = this.tryFind(id);
    if (!found) throw new GodwitError('unknown-migration', `no migration "${id}"; see list`);
    return found;
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

  /** A session tells that something about it is new. */
  changed(session: Session): void {
    const { id } = session;
    // A connection that never became a migration has no place here.
    if (!this.#sessions.includes(session) || this.#counted.has(session)) return;
    const { phase, outcome = 'failed' } = session.view();
    if (phase === 'ended') {
      this.#counted.add(session);
      this.#ended[outcome] = (this.#ended[outcome] ?? 0) + 1;
      clearTimeout(this.#notifying.get(id));
      this.#notify(session);
    } else if (this.#watchers.has(id) && !this.#notifying.has(id)) {
      this.#notifying.set(
        id,
        setTimeout(() => this.#notify(session), NOTIFY_MS),
      );
    }
  }

  /** Migrations ended since the daemon started, by outcome. */
  totals(): Readonly<Record<string, number>> {
    return this.#ended;
  }

  #notify(session: Session): void {
    this.#notifying.delete(session.id);
    for (const listener of this.#watchers.get(session.id) ?? []) listener(session.view());
  }
}
