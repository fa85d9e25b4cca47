import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import { CRAWL, type QemuMigration } from './migration.ts';

/** How often QEMU is asked how much is left: at 1 GB/s that is a third of what is slowed down. */
const ASK_MS = 25;
/** From here to its end a pass is slowed down: 64 MiB. */
const TAIL_PAGES = 16_384;
/** Time that what is left may take at the pace of the moment: each look at it then takes 5 % off. */
const LEFT_MS = 500;
/** So few pages are sent one in each of QEMU's windows of 100 ms. */
const LAST_PAGES = 10;

/** What it needs of QEMU's migration. */
type Steered = Pick<QemuMigration, 'pendingPages' | 'limitBandwidth'>;

/**
 * A pass that is not to be the last one. QEMU may end the passes, or without our word looks at the
 * dirty log again and again (10 passes in a millisecond), as soon as one is over, and events tell
 * too late. So the end of the pass is slowed down: in the window of 100 ms in which the next pass
 * begins, QEMU has next to no bandwidth, sees next to none, and so finds that nothing fits
 * `downtime-limit`.
 */
export class CarefulPass {
  readonly #migration: Steered;
  #stopped = false;
  #bandwidth: number | undefined;

  constructor(migration: Steered) {
    this.#migration = migration;
  }

  /** It is being slowed down: its rate says nothing about any link. */
  get slow(): boolean {
    return this.#bandwidth !== undefined && this.#bandwidth !== 0;
  }

  /** Resolves when the pass may go on; it is followed until `stop`. */
  async begin(): Promise<void> {
    await this.#step();
    void this.#follow().catch(() => {}); // QEMU is gone, which is told elsewhere
  }

  stop(): void {
    this.#stopped = true;
  }

  async #follow(): Promise<void> {
    while (!this.#stopped) {
      await new Promise((resolve) => setTimeout(resolve, ASK_MS));
      await this.#step();
    }
  }

  async #step(): Promise<void> {
    const pages = (await this.#migration.pendingPages()) ?? Number.POSITIVE_INFINITY;
    const bandwidth = paceOf(pages);
    if (this.#stopped || bandwidth === this.#bandwidth) return;
    this.#bandwidth = bandwidth;
    await this.#migration.limitBandwidth(bandwidth);
  }
}

/** Bytes per second for the rest of a pass; 0: no limit. */
function paceOf(pages: number): number {
  if (pages > TAIL_PAGES) return 0;
  if (pages <= LAST_PAGES) return CRAWL;
  return Math.round((pages * PAGE_SIZE * 1000) / LEFT_MS);
}
