import { asGodwitError } from '../errors.ts';
import type { MigrationContext } from './context.ts';

/**
 * What a migration has taken and gives back at its end, in the order in which it was taken:
 * connections come before what has to ask the hypervisor.
 */
export class Releases {
  readonly #all: (() => void | Promise<void>)[] = [];

  add(release: () => void | Promise<void>): void {
    this.#all.push(release);
  }

  /** Gives back all of it, whatever fails. */
  async run(log: MigrationContext['log']): Promise<void> {
    for (const release of this.#all.splice(0)) {
      try {
        await release();
      } catch (thrown) {
        log('error', asGodwitError(thrown).message);
      }
    }
  }
}
