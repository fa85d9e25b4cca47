import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { GodwitError } from '../lib/errors.ts';
import type { DestinationGuest, GuestCopy, GuestDescription } from '../lib/guest/guest.ts';
import { attachQemu } from '../lib/guest/qemu/copy.ts';
import { loadDefinition } from '../lib/guest/qemu/definition.ts';
import { startQemuDestination } from '../lib/guest/qemu/destination.ts';
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

  /** The guest that had that handle; undefined when it is gone. */
  attach(hypervisor: string, name: string, handle: string): Promise<GuestCopy | undefined> {
    if (hypervisor === 'qemu') return attachQemu(handle);
    return attachSimulated(this.#places.guestDir, name, handle);
  }
}
