import type { SeenWindow } from '../../memory/working-set.ts';
import type { MigrationProgress, QemuMigration } from './migration.ts';
import type { QmpClient } from './qmp.ts';

/** What was dirtied in less time than this says nothing, and is told with what follows. */
const LEAST_MS = 50;

/** A pass that has begun. */
export interface PassBegun {
  /** From 1. */
  readonly number: number;
  /** Pages that it has to send. */
  readonly pending: number;
  /** What the guest dirtied since this was last told; undefined of the first. */
  readonly dirtied: SeenWindow | undefined;
}

/**
 * Follows the passes of a QEMU that migrates. What is pending and what was sent make the same sum
 * throughout a pass, and more by what the guest has dirtied as the next one begins: so it matters
 * little when QEMU is asked. Pages that a pass has left over, and that were dirtied again, are not in it.
 */
export class PassMeter {
  #latest = { pass: 0, atMs: 0 };
  /** The newest that was asked about. */
  #asked = 0;
  /** Where what is told next begins. */
  #before: { readonly atMs: number; readonly pages: number } | undefined;
  #wake: (() => void) | undefined;

  /** Before the migration is begun. */
  constructor(qmp: Pick<QmpClient, 'on'>) {
    qmp.on('MIGRATION_PASS', ({ data, timestamp: { seconds, microseconds } }) => {
      this.#latest = { pass: Number(data?.pass), atMs: seconds * 1000 + microseconds / 1000 };
      this.#wake?.();
    });
  }

  /**
   * Resolves when another pass has begun. Those of a guest that is all but idle come faster than anybody
   * could ask about them: what was dirtied in them is told together.
   */
  async next(migration: Pick<QemuMigration, 'progress'>): Promise<PassBegun> {
    while (this.#latest.pass <= this.#asked)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    const progress = await migration.progress();
    const { pass: number } = this.#latest;
    // One of which it has not told yet, or was not asked yet, is another one.
    if (progress !== undefined) this.#asked = Math.min(number, progress.pass);
    return { number, pending: progress?.pending ?? 0, dirtied: this.#dirtied(progress) };
  }

  /** Undefined, and told with what follows, also while another pass begins in this moment. */
  #dirtied(progress: MigrationProgress | undefined): SeenWindow | undefined {
    const { pass, atMs } = this.#latest;
    if (progress?.pass !== pass) return undefined;
    const pages = progress.pending + progress.sent;
    const before = this.#before;
    const ms = atMs - (before?.atMs ?? Number.NEGATIVE_INFINITY);
    if (ms >= 0 && ms < LEAST_MS) return undefined;
    this.#before = { atMs, pages };
    if (before === undefined || ms < 0) return undefined; // the host's clock may have been set
    return { ms, pages: Math.max(0, pages - before.pages) };
  }
}
