import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { GodwitError } from '../lib/errors.ts';
import type { DestinationGuest, GuestCopy, GuestDescription, Moment } from '../lib/guest/guest.ts';
import { attachArriving, attachQemu } from '../lib/guest/qemu/copy.ts';
import { loadDefinition } from '../lib/guest/qemu/definition.ts';
import { startQemuDestination } from '../lib/guest/qemu/destination.ts';
import { type HookContext, runHookOf } from '../lib/guest/qemu/hooks.ts';
import { attachSimulated } from '../lib/guest/simulated/copy.ts';
import { startSimulatedDestination } from '../lib/guest/simulated/destination.ts';

export interface GuestPlaces {
  /** Control sockets of simulated guests. */
  readonly guestDir: string;
  /** Definitions of QEMU guests. */
  readonly definitions: string;
  /** Where RAM files are made, and may lie. */
  readonly ramDir: string;
  /** Where hypervisors log to. */
  readonly stateDir: string;
}

/** Makes room for guests on this host, and finds them again. */
export class Guests {
  readonly #places: GuestPlaces;

  constructor(places: GuestPlaces) {
    this.#places = places;
  }

  /**
   * A paused guest with memory for the description.
   * @throws GodwitError unknown-guest, guest-exists, definition-invalid, memory-insufficient,
   *   ram-file-failed, hypervisor-failed
   */
  async start(description: GuestDescription): Promise<DestinationGuest> {
    const { guestDir: dir, definitions, ramDir, stateDir } = this.#places;
    const { name, hypervisor } = description;
    await mkdir(stateDir, { recursive: true, mode: 0o700 });
    const logFile = path.join(stateDir, `${name}.log`);
    switch (hypervisor) {
      case 'simulated':
        return startSimulatedDestination({ dir, ramDir, description, logFile });
      case 'qemu': {
        const definition = loadDefinition(definitions, name, [ramDir]);
        return startQemuDestination({ definition, description, stagingDir: ramDir, logFile });
      }
      default: {
        const text = `this receiver has no hypervisor "${hypervisor}"`;
        throw new GodwitError('hypervisor-failed', text);
      }
    }
  }

  /** Runs what the operator wants done at that moment. @throws GodwitError hook-failed, definition-invalid */
  hook(moment: Moment, context: HookContext): Promise<void> {
    return runHookOf(this.#places, moment, context);
  }

  /** The guest that had that handle; undefined when it is gone. */
  async attach(hypervisor: string, name: string, handle: string): Promise<GuestCopy | undefined> {
    const { definitions, ramDir } = this.#places;
    if (hypervisor === 'qemu' && handle === '')
      return attachArriving(loadDefinition(definitions, name, [ramDir]));
    if (hypervisor === 'qemu') return attachQemu(handle);
    return attachSimulated(this.#places.guestDir, name, handle);
  }
}
