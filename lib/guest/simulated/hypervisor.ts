import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { asGodwitError } from '../../errors.ts';
import { type Finding, lookAt } from '../../finding.ts';
import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import { formatSize } from '../../units.ts';
import type { DestinationGuest, GuestCopy, GuestDescription } from '../guest.ts';
import type {
  Guest,
  GuestLook,
  GuestOutline,
  GuestTrouble,
  Hypervisor,
  KeptFiles,
} from '../hypervisor.ts';
import {
  type Observation,
  type Profiling,
  profileReadable,
  requireNoRehearsal,
} from '../profile.ts';
import { attachSimulated, type GuestAnswer, runStateOf } from './copy.ts';
import { requireNameFree, startSimulatedDestination } from './destination.ts';
import { HYPERVISOR, shapeOf } from './device-model.ts';
import { connectGuest, guestNames } from './guest-dir.ts';
import { requireRoom } from './ram-file.ts';
import { connectSimulatedSource } from './source.ts';

/** A VMM that stands still does not keep a look waiting. */
const LOOK_LIMITS = { greetingMs: 3000, commandMs: 3000 };

export interface SimulatedPlaces {
  /** Control sockets. */
  readonly guestDir: string;
  /** RAM files of guests that arrive. */
  readonly ramDir: string;
  /** Where VMMs log to. */
  readonly stateDir: string;
}

/** The simulated guests of this host: each a VMM with a control socket `NAME.sock`. */
export class SimulatedHypervisor implements Hypervisor {
  readonly name = HYPERVISOR;
  readonly #places: SimulatedPlaces;

  constructor(places: SimulatedPlaces) {
    this.#places = places;
  }

  async list(except: ReadonlySet<string> = new Set()): Promise<(GuestLook | GuestTrouble)[]> {
    const names = (await guestNames(this.#places.guestDir)).filter((name) => !except.has(name));
    const lines = await Promise.all(names.map((name) => this.#line(name)));
    return lines.filter((line) => line !== undefined);
  }

  names(): Promise<readonly string[]> {
    return guestNames(this.#places.guestDir);
  }

  async find(name: string): Promise<Guest> {
    const client = await connectGuest(this.#places.guestDir, name, LOOK_LIMITS);
    client.close(); // it is there
    return {
      name,
      hypervisor: this.name,
      look: () => this.#look(name),
      machine: async () => (await this.#ask(name)).description.deviceModel,
      openSource: () => connectSimulatedSource(this.#places.guestDir, name),
      profile: (profiling) => this.#profile(name, profiling),
    };
  }

  async arrive(
    description: GuestDescription,
    known: (handle: string) => Promise<void>,
    kept?: KeptFiles,
  ): Promise<DestinationGuest> {
    const { guestDir: dir, ramDir, stateDir } = this.#places;
    await mkdir(stateDir, { recursive: true, mode: 0o700 });
    const logFile = path.join(stateDir, `${description.name}.log`);
    return startSimulatedDestination({ dir, ramDir, description, logFile, kept, known });
  }

  outlineOf({ name, hypervisor, deviceModel: machine, regions }: GuestDescription): GuestOutline {
    return { name, hypervisor, machine, memoryBytes: bytesOf(regions) };
  }

  async canTake(guest: GuestOutline, _ = false, spare = 0): Promise<readonly Finding[]> {
    const { guestDir, ramDir } = this.#places;
    const { name, hypervisor, machine: deviceModel, memoryBytes } = guest;
    const regions = [{ name: 'ram', firstPfn: 0, pages: memoryBytes / PAGE_SIZE }];
    return [
      await lookAt('machine', () => {
        const { vcpus } = shapeOf({ name, hypervisor, deviceModel, regions });
        return `a simulated machine with ${vcpus} vCPUs`;
      }),
      await lookAt('name', async () => {
        await requireNameFree(guestDir, name);
        return `no guest in ${guestDir} is called ${name}`;
      }),
      await lookAt('ram-files', () => {
        requireRoom(ramDir, name, Math.max(0, memoryBytes - spare));
        return `${ramDir} has room for ${formatSize(memoryBytes)}`;
      }),
    ];
  }

  attach(handle: string): Promise<GuestCopy | 'gone'> {
    return attachSimulated(handle);
  }

  /** They have no definition that could say one. */
  async hook(): Promise<void> {}

  async #profile(name: string, profiling: Profiling): Promise<Observation> {
    const why = 'no hypervisor moves it, and its profile is of the dirty log that a move has';
    requireNoRehearsal(name, profiling, why);
    const guest = await connectSimulatedSource(this.#places.guestDir, name);
    try {
      return await profileReadable(guest, profiling);
    } finally {
      guest.close();
    }
  }

  async hooksOf(): Promise<Finding> {
    return lookAt('hooks', () => 'simulated guests have none');
  }

  /** A migration sets nothing in it that outlasts its connection. */
  changed(): readonly string[] {
    return [];
  }

  async undo(): Promise<void> {}

  async #look(name: string): Promise<GuestLook> {
    const { status, description, deviceStateBytes } = await this.#ask(name);
    const state = runStateOf(status);
    const memoryBytes = bytesOf(description.regions);
    return { name, hypervisor: this.name, state, memoryBytes, deviceStateBytes };
  }

  async #ask(name: string): Promise<GuestAnswer> {
    const client = await connectGuest(this.#places.guestDir, name, LOOK_LIMITS);
    try {
      return await client.execute<GuestAnswer>('query-guest');
    } finally {
      client.close();
    }
  }

  /** Undefined for a socket that a dead VMM left. */
  async #line(name: string): Promise<GuestLook | GuestTrouble | undefined> {
    try {
      return await this.#look(name);
    } catch (error) {
      const { code, message } = asGodwitError(error);
      if (code === 'unknown-guest') return undefined;
      return { name, hypervisor: this.name, trouble: message };
    }
  }
}

function bytesOf(regions: GuestDescription['regions']): number {
  return regions.reduce((sum, { pages }) => sum + pages, 0) * PAGE_SIZE;
}
