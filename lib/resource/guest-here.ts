import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { asGodwitError } from '../errors.ts';
import { endProcess } from '../guest/end-process.ts';
import { isAlive } from '../guest/process-identity.ts';
import { type GuestDefinition, loadDefinition } from '../guest/qemu/definition.ts';
import { bootQemu } from '../guest/qemu/process.ts';
import { QmpClient } from '../guest/qemu/qmp.ts';
import { runStateOf } from '../guest/qemu/run-state.ts';
import type { RunState } from '../guest/run-state.ts';
import { bootSimulatedGuest } from '../guest/simulated/boot.ts';
import {
  type GuestAnswer,
  placeFrom,
  runStateOf as simulatedState,
} from '../guest/simulated/copy.ts';
import { connectGuest } from '../guest/simulated/guest-dir.ts';
import { socketPath } from '../guest/simulated/socket-claim.ts';
import { poll } from '../poll.ts';
import type { Call } from './call.ts';
import { Domain } from './domain.ts';
import type { Places } from './places.ts';

const POLL_MS = 100;

/** A guest of this host as its hypervisor has it, whatever the agents do. */
export interface GuestHere {
  /** @throws GodwitError not-seen, hypervisor-failed: it may be here or not */
  look(): Promise<RunState | 'gone'>;
  /** Starts it anew; it runs when this resolves. */
  start(): Promise<void>;
  /** Has it shut down, and ends it after the time of grace. Resolves when its process has ended. */
  stop(graceMs: number): Promise<void>;
}

export function guestHere(
  call: Call,
  { send, recv }: { readonly send: Places; readonly recv: Places },
): GuestHere {
  if (call.kind === 'libvirt') return new Domain(call, send);
  if (call.kind === 'qemu') return new DefinedGuest(call, send);
  return new SimulatedGuest(call, [send.guestDir, recv.guestDir], send.ramDir);
}

/** A guest of QEMU by its definition. */
class DefinedGuest implements GuestHere {
  readonly #definition: GuestDefinition;
  readonly #stateDir: string;

  constructor({ guest }: Call, { definitions, ramDir, stateDir }: Places) {
    this.#definition = loadDefinition(definitions, guest, [ramDir]);
    this.#stateDir = stateDir;
  }

  /** A monitor that nobody serves is that of no QEMU; one that an agent has answers nobody else. */
  async look(): Promise<RunState | 'gone'> {
    if (!(await QmpClient.serves(this.#definition.qmp))) return 'gone';
    return this.#asking(async (qmp) =>
      runStateOf((await qmp.execute<{ status: string }>('query-status')).status),
    );
  }

  async start(): Promise<void> {
    mkdirSync(this.#stateDir, { recursive: true, mode: 0o700 });
    const logFile = path.join(this.#stateDir, `${this.#definition.name}.log`);
    const { qmp } = await bootQemu({ definition: this.#definition, logFile });
    qmp.close();
  }

  async stop(graceMs: number): Promise<void> {
    if (!(await QmpClient.serves(this.#definition.qmp))) return;
    await this.#asking(async (qmp) => {
      const process = await qmp.process();
      const { status } = await qmp.execute<{ status: string }>('query-status');
      if (status === 'running') {
        await qmp.execute('system_powerdown').catch(() => {}); // a guest need not listen
        await poll(graceMs, POLL_MS, () => (isAlive(process) ? undefined : true));
      }
      await endProcess(process, () => void qmp.executeLast('quit').catch(() => {}));
    });
  }

  async #asking<T>(ask: (qmp: QmpClient) => Promise<T>): Promise<T> {
    const qmp = await QmpClient.connect(this.#definition.qmp);
    try {
      return await ask(qmp);
    } finally {
      qmp.close();
    }
  }
}

/** For trying a cluster out. */
class SimulatedGuest implements GuestHere {
  readonly #call: Call;
  readonly #dirs: readonly [string, string];
  readonly #ramDir: string;

  /** @param dirs of guests that were started here, and of those that arrived */
  constructor(call: Call, dirs: readonly [string, string], ramDir: string) {
    this.#call = call;
    this.#dirs = dirs;
    this.#ramDir = ramDir;
  }

  async look(): Promise<RunState | 'gone'> {
    const found = await this.#find();
    if (found === undefined) return 'gone';
    found.client.close();
    return simulatedState(found.answer.status);
  }

  async start(): Promise<void> {
    const { guest: name, memory = '64MiB' } = this.#call;
    await bootSimulatedGuest({ name, dir: this.#dirs[0], ramDir: this.#ramDir, memory });
  }

  async stop(): Promise<void> {
    const found = await this.#find();
    if (found === undefined) return;
    const { client, answer, dir } = found;
    const { process } = placeFrom(socketPath(dir, this.#call.guest), answer);
    await endProcess(process, () => void client.executeLast('quit').catch(() => {}));
    client.close();
  }

  async #find() {
    for (const dir of this.#dirs) {
      try {
        const client = await connectGuest(dir, this.#call.guest);
        return { client, dir, answer: await client.execute<GuestAnswer>('query-guest') };
      } catch (thrown) {
        if (asGodwitError(thrown).code !== 'unknown-guest') throw thrown;
      }
    }
    return undefined;
  }
}
