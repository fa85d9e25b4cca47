import type { GuestView } from '../lib/control/view.ts';
import { asGodwitError } from '../lib/errors.ts';
import type { GuestCopy, Moment, SourceGuest } from '../lib/guest/guest.ts';
import { attachQemu } from '../lib/guest/qemu/copy.ts';
import {
  type BrokenDefinition,
  type GuestDefinition,
  hasDefinition,
  listDefinitions,
  loadDefinition,
} from '../lib/guest/qemu/definition.ts';
import { type HookContext, runHookOf } from '../lib/guest/qemu/hooks.ts';
import { QmpClient } from '../lib/guest/qemu/qmp.ts';
import { connectQemuSource } from '../lib/guest/qemu/source.ts';
import { attachSimulated } from '../lib/guest/simulated/copy.ts';
import { connectSimulatedSource, simulatedGuestNames } from '../lib/guest/simulated/source.ts';
import { PAGE_SIZE } from '../lib/memory/guest-layout.ts';

/** A monitor that another client holds does not keep the list waiting. */
const LIST_LIMIT_MS = 1000;

export interface GuestPlaces {
  /** Control sockets of simulated guests. */
  readonly guestDir: string;
  /** Definitions of QEMU guests. */
  readonly definitions: string;
  /** Where RAM files of definitions may lie. */
  readonly ramDir: string;
}

/** The guests of this host: those with a definition are QEMU's, all others simulated. */
export class Guests {
  readonly #places: GuestPlaces;

  constructor(places: GuestPlaces) {
    this.#places = places;
  }

  /** For migrating it away. @throws GodwitError unknown-guest, guest-not-running, … */
  async connect(name: string): Promise<SourceGuest> {
    const { definitions, ramDir, guestDir } = this.#places;
    if (!hasDefinition(definitions, name)) return connectSimulatedSource(guestDir, name);
    return connectQemuSource(loadDefinition(definitions, name, [ramDir]));
  }

  /** Runs what the operator wants done at that moment. @throws GodwitError hook-failed, definition-invalid */
  hook(moment: Moment, context: HookContext): Promise<void> {
    return runHookOf(this.#places, moment, context);
  }

  /** The guest that had that handle; undefined when it is gone. */
  attach(hypervisor: string, name: string, handle: string): Promise<GuestCopy | undefined> {
    if (hypervisor === 'qemu') return attachQemu(handle);
    return attachSimulated(this.#places.guestDir, name, handle);
  }

  /** All that could be migrated; those being migrated are not asked. */
  async list(migrating: ReadonlySet<string>): Promise<GuestView[]> {
    const { definitions, ramDir, guestDir } = this.#places;
    const defined = listDefinitions(definitions, [ramDir]);
    const names = (await simulatedGuestNames(guestDir)).filter(
      (name) => !defined.some((definition) => definition.name === name),
    );
    const busy = (name: string, hypervisor: string) =>
      migrating.has(name) && { name, hypervisor, status: 'migrating', memoryBytes: 0 };
    const views = await Promise.all([
      ...defined.map((found) => busy(found.name, 'qemu') || viewOfQemu(found)),
      ...names.map((name) => busy(name, 'simulated') || this.#viewOfSimulated(name)),
    ]);
    return views.filter((view) => view !== undefined);
  }

  async #viewOfSimulated(name: string): Promise<GuestView | undefined> {
    const hypervisor = 'simulated';
    try {
      const guest = await connectSimulatedSource(this.#places.guestDir, name);
      const pages = guest.description.regions.reduce((sum, { pages }) => sum + pages, 0);
      guest.close();
      return { name, hypervisor, status: 'running', memoryBytes: pages * PAGE_SIZE };
    } catch (error) {
      const { code } = asGodwitError(error);
      if (code !== 'guest-not-running') return undefined; // a socket that a dead VMM left
      return { name, hypervisor, status: 'suspended', memoryBytes: 0 };
    }
  }
}

/** With QEMU's own word for its state, or why there is none. */
async function viewOfQemu(found: GuestDefinition | BrokenDefinition): Promise<GuestView> {
  const { name } = found;
  const hypervisor = 'qemu';
  if ('error' in found)
    return { name, hypervisor, status: `invalid: ${found.error.message}`, memoryBytes: 0 };
  let qmp: QmpClient | undefined;
  try {
    qmp = await QmpClient.connect(found.qmp, { greetingLimitMs: LIST_LIMIT_MS });
    const { status } = await qmp.execute<{ status: string }>('query-status');
    const memory = await qmp.execute<{ 'base-memory': number; 'plugged-memory'?: number }>(
      'query-memory-size-summary',
    );
    const memoryBytes = memory['base-memory'] + (memory['plugged-memory'] ?? 0);
    return { name, hypervisor, status, memoryBytes };
  } catch (error) {
    const status = `not running: ${asGodwitError(error).message}`;
    return { name, hypervisor, status, memoryBytes: 0 };
  } finally {
    qmp?.close();
  }
}
