import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import type { Crew } from '../../crew/crew.ts';
import { asGodwitError } from '../../errors.ts';
import { type Finding, lookAt } from '../../finding.ts';
import { GuestLayout, PAGE_SIZE } from '../../memory/guest-layout.ts';
import type { DestinationGuest, GuestCopy, GuestDescription, Moment } from '../guest.ts';
import type {
  Guest,
  GuestLook,
  GuestOutline,
  GuestTrouble,
  HookContext,
  Hypervisor,
  KeptFiles,
} from '../hypervisor.ts';
import { isAlive } from '../process-identity.ts';
import { canTake, machineBehind } from './can-take.ts';
import { attachQemu } from './copy.ts';
import {
  type BrokenDefinition,
  type GuestDefinition,
  listDefinitions,
  loadDefinition,
} from './definition.ts';
import { startQemuDestination } from './destination.ts';
import { HYPERVISOR, readDeviceModel } from './device-model.ts';
import { requireHooks, runHookOf } from './hooks.ts';
import { KeptSettings } from './kept-settings.ts';
import { memoryBytesOf } from './memory-size.ts';
import { undoSettings } from './migration.ts';
import { profileQemu } from './profile.ts';
import { QmpClient } from './qmp.ts';
import { rehearseQemu } from './rehearsal.ts';
import { runStateOf } from './run-state.ts';
import { connectQemuSource } from './source.ts';

/** A monitor that another client holds, or a QEMU that stands still, does not keep a look waiting. */
const LOOK_LIMITS = { greetingLimitMs: 3000, commandLimitMs: 3000 };

export interface QemuPlaces {
  /** Definitions, `NAME.json`. */
  readonly definitions: string;
  /** Where their RAM files may lie, and memory that arrives is staged. */
  readonly ramDir: string;
  /** Where QEMU logs to. */
  readonly stateDir: string;
}

/** The QEMU guests of this host: those that have a definition. */
export class QemuHypervisor implements Hypervisor {
  readonly name = HYPERVISOR;
  readonly #places: QemuPlaces;
  readonly #crew: Crew;
  readonly #kept: KeptSettings;

  /** @param crew carries the streams from and to QEMU */
  constructor(places: QemuPlaces, crew: Crew) {
    this.#places = places;
    this.#crew = crew;
    this.#kept = new KeptSettings(places.stateDir);
  }

  async list(except: ReadonlySet<string> = new Set()): Promise<(GuestLook | GuestTrouble)[]> {
    const { definitions, ramDir } = this.#places;
    const defined = listDefinitions(definitions, [ramDir]).filter(({ name }) => !except.has(name));
    return Promise.all(defined.map((found) => this.#line(found)));
  }

  async names(): Promise<readonly string[]> {
    const { definitions, ramDir } = this.#places;
    return listDefinitions(definitions, [ramDir]).map(({ name }) => name);
  }

  async find(name: string): Promise<Guest> {
    const definition = this.#definition(name);
    return {
      name,
      hypervisor: this.name,
      look: () => look(definition),
      machine: () => asking(definition, machineBehind),
      openSource: () => connectQemuSource(definition, this.#crew, this.#kept),
      profile: (profiling) =>
        profiling.rehearsal === undefined
          ? profileQemu(definition, profiling)
          : rehearseQemu({ definition, crew: this.#crew, kept: this.#kept }, profiling),
    };
  }

  async arrive(
    description: GuestDescription,
    known: (handle: string) => Promise<void>,
    kept?: KeptFiles,
  ): Promise<DestinationGuest> {
    const { ramDir: stagingDir, stateDir } = this.#places;
    const definition = this.#definition(description.name);
    await mkdir(stateDir, { recursive: true, mode: 0o700 });
    const logFile = path.join(stateDir, `${description.name}.log`);
    const places = { stagingDir, logFile, kept };
    return startQemuDestination({ crew: this.#crew, definition, description, ...places, known });
  }

  outlineOf({ name, hypervisor, deviceModel, regions }: GuestDescription): GuestOutline {
    const { machine } = readDeviceModel(deviceModel);
    const { totalPages } = new GuestLayout(regions);
    return { name, hypervisor, machine, memoryBytes: totalPages * PAGE_SIZE };
  }

  async canTake(guest: GuestOutline, verify: boolean, spare = 0): Promise<readonly Finding[]> {
    let definition: GuestDefinition | undefined;
    const defined = await lookAt('definition', () => {
      definition = this.#definition(guest.name);
      return definition.file;
    });
    if (definition === undefined) return [defined];
    const { ramDir: stagingDir } = this.#places;
    return canTake({ definition, guest, verify, stagingDir, spare, limits: LOOK_LIMITS });
  }

  attach(handle: string): Promise<GuestCopy | 'gone'> {
    return attachQemu(handle);
  }

  hook(moment: Moment, context: HookContext): Promise<void> {
    return runHookOf(this.#places, moment, context);
  }

  async hooksOf(guest: string): Promise<Finding> {
    return lookAt('hooks', () => {
      const names = requireHooks(this.#places, guest);
      return names.length === 0 ? 'none' : `${names.join(', ')} can be started`;
    });
  }

  changed(): readonly string[] {
    return this.#kept.guests();
  }

  async undo(guest: string): Promise<void> {
    const kept = this.#kept.of(guest);
    if (kept !== undefined && isAlive(kept.process)) {
      const qmp = await QmpClient.connect(kept.socket, LOOK_LIMITS);
      try {
        // Another one may have taken the monitor of one that is about to end.
        if ((await qmp.process()).pid === kept.process.pid) await undoSettings(qmp, kept.settings);
      } finally {
        qmp.close();
      }
    }
    this.#kept.forget(guest);
  }

  #definition(name: string): GuestDefinition {
    return loadDefinition(this.#places.definitions, name, [this.#places.ramDir]);
  }

  async #line(found: GuestDefinition | BrokenDefinition): Promise<GuestLook | GuestTrouble> {
    const { name } = found;
    try {
      if ('error' in found) throw found.error;
      return await look(found);
    } catch (error) {
      return { name, hypervisor: this.name, trouble: asGodwitError(error).message };
    }
  }
}

function look(definition: GuestDefinition): Promise<GuestLook> {
  return asking(definition, async (qmp) => {
    const { status } = await qmp.execute<{ status: string }>('query-status');
    const memoryBytes = await memoryBytesOf(qmp);
    const { name } = definition;
    return { name, hypervisor: HYPERVISOR, state: runStateOf(status), memoryBytes };
  });
}

async function asking<T>(
  { qmp: monitor }: GuestDefinition,
  ask: (qmp: QmpClient) => Promise<T>,
): Promise<T> {
  const qmp = await QmpClient.connect(monitor, LOOK_LIMITS);
  try {
    return await ask(qmp);
  } finally {
    qmp.close();
  }
}
