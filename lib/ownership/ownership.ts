import { asGodwitError } from '../errors.ts';
import { log } from '../log.ts';
import { GuestRecords, type RecordHolder } from './guest-record.ts';
import { Journal } from './journal/journal.ts';
import { RecordFiles } from './record-files.ts';

/** A claim that came to nothing while the disk was full or dead is let go of within this time, ms. */
const SWEEP_MS = 30_000;

/** What an agent knows of who may run which guest: its journal, and the records of its host. */
export class Ownership {
  readonly journal: Journal;
  readonly records: GuestRecords;
  readonly #sweeping: NodeJS.Timeout;

  private constructor(journal: Journal, records: GuestRecords) {
    this.journal = journal;
    this.records = records;
    this.#sweeping = setInterval(() => this.#sweep(), SWEEP_MS).unref();
  }

  /**
   * @param states that the agent's journal may hold
   * @throws GodwitError journal-failed, journal-invalid
   */
  static async open(
    side: RecordHolder['side'],
    states: readonly string[],
    { stateDir, hostDir }: { readonly stateDir: string; readonly hostDir: string },
  ): Promise<Ownership> {
    const journal = await Journal.open(stateDir, states);
    try {
      const files = await RecordFiles.open(hostDir);
      const holder = { side, journal: await journal.identify(files.id), stateDir };
      const isOpen = (migration: string) => journal.entry(migration) !== undefined;
      const records = new GuestRecords(files, holder, isOpen);
      await records.sweep();
      return new Ownership(journal, records);
    } catch (error) {
      await journal.close();
      throw error;
    }
  }

  /** Whether `open` would take what is there, as far as looking shows. @throws GodwitError as `open` */
  static inspect(
    states: readonly string[],
    { stateDir, hostDir }: { readonly stateDir: string; readonly hostDir: string },
  ): void {
    Journal.inspect(stateDir, states, RecordFiles.idIn(hostDir));
  }

  /** Whether anything is left to be done to a guest of that name on this host, by either agent. */
  isOpen(guest: string): boolean {
    const isOurs = this.journal.open.some((entry) => entry.guest === guest);
    return isOurs || !this.records.rests(guest);
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeping);
    await this.journal.close();
  }

  #sweep(): void {
    this.records.sweep().catch((thrown) => log('warn', asGodwitError(thrown).message));
  }
}
