import { GodwitError } from '../errors.ts';
import { log } from '../log.ts';
import {
  type HistoryFilter,
  history,
  ledgerIds,
  type PastMigration,
  pruneLedgers,
  type Retention,
} from '../report/history.ts';
import { ledgerFile } from '../report/ledger.ts';
import { ambiguous } from './registry.ts';

/** What the daemon knows of its migrations, of this run and of earlier ones. */
export interface Known {
  /** Of those that it shows. */
  ids(): readonly string[];
  /** It is not over. */
  isOpen(id: string): boolean;
}

/** The ledgers of an agent's migrations. */
export class Ledgers {
  readonly #stateDir: string;
  readonly #known: Known;

  constructor(stateDir: string, known: Known) {
    this.#stateDir = stateDir;
    this.#known = known;
  }

  /**
   * Also of earlier runs of the daemon: by a prefix that only one has.
   * @throws GodwitError unknown-migration, ambiguous-id
   */
  async file(id: string): Promise<string> {
    const known = new Set([...(await ledgerIds(this.#stateDir)), ...this.#known.ids()]);
    const [found, ...more] = [...known].filter((one) => one.startsWith(id));
    if (found === undefined || id === '')
      throw new GodwitError('unknown-migration', `no migration "${id}"; see list --all`);
    if (more.length > 0) throw ambiguous(id, [found, ...more]);
    return ledgerFile(this.#stateDir, found);
  }

  history(filter: HistoryFilter): Promise<PastMigration[]> {
    return history(this.#stateDir, (id) => this.#known.isOpen(id), filter);
  }

  /** Removes those that are not to be kept any longer. */
  async prune(retention: Retention): Promise<void> {
    const isOpen = (id: string) => this.#known.isOpen(id);
    const removed = await pruneLedgers(this.#stateDir, isOpen, retention, Date.now());
    if (removed.length > 0) log('info', `removed the ledgers of ${removed.length} migrations`);
  }
}
