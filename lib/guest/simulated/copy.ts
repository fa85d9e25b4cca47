import { rmSync } from 'node:fs';
import path from 'node:path';
import { GodwitError } from '../../errors.ts';
import type { RegionFile } from '../../memory/guest-layout.ts';
import { attach, removeFiles } from '../attach.ts';
import { endProcess } from '../end-process.ts';
import type { GuestCopy, GuestDescription, GuestSuspension } from '../guest.ts';
import { type CopyPlace, type FoundPlace, handleOf, inThisBoot, placeOf } from '../handle.ts';
import { CommandRefused } from '../line-client.ts';
import { identify } from '../process-identity.ts';
import type { RunState } from '../run-state.ts';
import { ControlClient } from './control-client.ts';
import { HYPERVISOR } from './device-model.ts';
import type { MachineStatus, Stopper } from './machine.ts';
import { answers } from './socket-claim.ts';

/** What a VMM answers to query-guest. */
export interface GuestAnswer {
  readonly description: GuestDescription;
  readonly memory: readonly RegionFile[];
  readonly pid: number;
  readonly deviceStateBytes: number;
  readonly status: MachineStatus;
}

/** What a VMM answers to query-status, and says with STOP. */
export interface StatusAnswer {
  readonly status: MachineStatus;
  /** Who has stopped it, if anybody told it to. */
  readonly by?: Stopper;
}

/** A simulated guest by its VMM's control socket; both sides of a migration build on it. */
export class SimulatedCopy implements GuestCopy {
  protected readonly client: ControlClient;
  protected readonly place: FoundPlace;
  #closed = false;

  constructor(client: ControlClient, place: FoundPlace) {
    this.client = client;
    this.place = place;
  }

  get hypervisorVersion(): string {
    return `simulated VMM ${this.client.version}`;
  }

  /** The VMM's process: another one of the same name is another guest. */
  get handle(): string {
    return handleOf(this.place);
  }

  async state(): Promise<RunState> {
    return runStateOf((await this.#status()).status);
  }

  async suspend(onStop?: (agoMs: number) => void): Promise<RunState> {
    onStop?.(0);
    return this.#standing(await this.client.execute('stop', { by: 'agent' }));
  }

  async memoryOnly(): Promise<boolean> {
    return true;
  }

  /** It never resumes by itself. */
  async seal(): Promise<Uint8Array> {
    return new Uint8Array(0);
  }

  /**
   * The VMM knows who has stopped it, and looks as it is told: what an operator has paused stays so. It
   * answers after the guest's first heartbeat.
   */
  async resume(): Promise<RunState> {
    const state = await this.#run();
    if (state !== 'incoming') return state;
    throw new GodwitError('not-started', 'the VMM cannot run the guest: it has not arrived');
  }

  async suspension(): Promise<GuestSuspension | undefined> {
    const answer = await this.client.execute<{ lastSuspension?: GuestSuspension }>(
      'query-heartbeat',
    );
    return answer.lastSuspension;
  }

  async destroy(): Promise<void> {
    await this.end();
    await clear(this.place);
  }

  /** Ends its process. @param last what the VMM is told besides */
  protected async end(last: Record<string, unknown> = {}): Promise<void> {
    const quit = () => void this.client.executeLast('quit', last).catch(() => {});
    await endProcess(this.place.process, this.#closed ? undefined : quit);
    this.close();
  }

  onDeath(listener: (error: Error) => void): void {
    this.client.onClose(listener);
  }

  close(): void {
    this.#closed = true;
    this.client.close();
  }

  #status(): Promise<StatusAnswer> {
    return this.client.execute<StatusAnswer>('query-status');
  }

  async #run(): Promise<RunState> {
    try {
      const answer = await this.client.execute<Partial<StatusAnswer>>('cont', {
        stoppedBy: 'agent',
      });
      return await this.#standing(answer).catch(() => 'running' as const); // as it was when it answered
    } catch (error) {
      if (!(error instanceof CommandRefused)) throw error;
      const { status, by } = await this.#status();
      const stands = status === 'paused' || status === 'postmigrate';
      if (!stands || by !== 'agent') throw error;
      throw new GodwitError('not-started', error.message, { cause: error });
    }
  }

  /** What the answer to a command says. A VMM that is older than this agent has to be asked. */
  async #standing({ status }: Partial<StatusAnswer>): Promise<RunState> {
    return status === undefined ? this.state() : runStateOf(status);
  }
}

/** Where a VMM that has answered is found again. @throws GodwitError guest-died */
export function placeFrom(socket: string, { description, memory, pid }: GuestAnswer): FoundPlace {
  const guest = description.name;
  const process = identify(pid);
  if (process === undefined)
    throw new GodwitError('guest-died', `the VMM of guest ${guest} is gone`);
  const ram = memory.map(({ path }) => path);
  return { kind: HYPERVISOR, guest, socket, process: inThisBoot(process), ram };
}

/** @throws as `attach` */
export async function attachSimulated(handle: string): Promise<GuestCopy | 'gone'> {
  return attach(placeOf(HYPERVISOR, handle), { connect, waiting, marks, clear });
}

function marks({ socket, guest }: CopyPlace): string[] {
  return [`\0--dir\0${path.dirname(socket)}\0`, `"name":${JSON.stringify(guest)}`];
}

/** A VMM that was killed could remove nothing itself. */
async function clear(place: CopyPlace): Promise<void> {
  removeFiles(place);
  if (!(await answers(place.socket))) rmSync(place.socket, { force: true });
}

async function connect(place: FoundPlace): Promise<GuestCopy> {
  const [client, answer] = await ask(place);
  if (answer.pid === place.process.pid) return new SimulatedCopy(client, place);
  client.close();
  throw new GodwitError('not-seen', `another VMM serves ${place.socket}`);
}

async function waiting({ socket, guest }: CopyPlace): Promise<GuestCopy | undefined> {
  const [client, answer] = await ask({ socket, guest });
  if (answer.status === 'inmigrate') return new SimulatedCopy(client, placeFrom(socket, answer));
  client.close();
  return undefined;
}

async function ask({ socket, guest }: Pick<CopyPlace, 'socket' | 'guest'>) {
  const client = await ControlClient.connect(socket, guest);
  try {
    return [client, await client.execute<GuestAnswer>('query-guest')] as const;
  } catch (error) {
    client.close();
    throw error;
  }
}

const RUN_STATES: Readonly<Record<MachineStatus, RunState>> = {
  prelaunch: 'incoming',
  inmigrate: 'incoming',
  running: 'running',
  paused: 'paused',
  postmigrate: 'migrated',
  'io-error': 'io-error',
  'guest-panicked': 'panicked',
  shutdown: 'shut-down',
  watchdog: 'watchdog',
};

/** The VMM's word as a fact for the agents. */
export function runStateOf(status: MachineStatus): RunState {
  return RUN_STATES[status];
}
