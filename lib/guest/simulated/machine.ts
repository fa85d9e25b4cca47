import { randomUUID } from 'node:crypto';
import { GodwitError } from '../../errors.ts';
import { PAGE_SIZE, type RegionFile } from '../../memory/guest-layout.ts';
import type { GuestDescription } from '../guest.ts';
import { describe, type Shape } from './device-model.ts';
import { type DeviceState, type DeviceStateReader, encodeDeviceState } from './device-state.ts';
import { DirtyLog } from './dirty-log.ts';
import type { SliceCheck } from './guest-memory.ts';
import { GuestThread } from './guest-thread.ts';
import type { HeartbeatState } from './heartbeat-clock.ts';
import type { RamFile } from './ram-file.ts';
import type { VcpuProgram, VcpuState } from './vcpu.ts';
import type { WorkloadSettings } from './workload.ts';

/** As QEMU names them. `postmigrate`: an agent has suspended it, and its device state was taken. */
export type MachineStatus =
  | 'prelaunch'
  | 'inmigrate'
  | 'running'
  | 'paused'
  | 'postmigrate'
  | GuestTrouble;

/** Why a guest may stop by itself, as QEMU names what it then is. */
export const GUEST_TROUBLES = ['io-error', 'guest-panicked', 'shutdown', 'watchdog'] as const;
export type GuestTrouble = (typeof GUEST_TROUBLES)[number];

/** Who has told a guest to stop. */
export type Stopper = 'agent' | 'operator';

/** What a fresh guest is made of; one that migrates in brings it along. */
export type GuestProgram = Pick<DeviceState, 'seed' | 'mix' | 'settings' | 'paddedSize'>;

export interface SelfCheck extends SliceCheck {
  /** No page and no entry is wrong. */
  readonly clean: boolean;
}

/** A simulated machine: memory, vCPU threads, heartbeat. Changes of state happen one at a time. */
export class Machine {
  readonly description: GuestDescription;
  readonly memory: readonly RegionFile[];
  readonly dirtyLog: DirtyLog;
  #status: MachineStatus = 'prelaunch';
  /** Who paused it, while it is paused. */
  #stoppedBy: Stopper | undefined;
  #identity: (GuestProgram & { readonly uuid: string }) | undefined;
  #lastChange: Promise<unknown> = Promise.resolve();
  readonly #vcpus: readonly GuestThread[];
  readonly #heartbeat: GuestThread;

  /** Threads wait until the machine is booted or loaded; `onDeath` is told when one of them fails. */
  constructor(shape: Shape, ram: RamFile, onDeath: (error: Error) => void) {
    const pages = shape.memory / PAGE_SIZE;
    this.description = describe(shape);
    this.memory = [{ region: this.description.regions[0]!, path: ram.path, offset: 0 }];
    this.dirtyLog = new DirtyLog(pages);
    const { vcpus } = shape;
    const shared = { vcpus, pages, fd: ram.fd, log: this.dirtyLog.shared };
    const entry = new URL('vcpu.ts', import.meta.url);
    this.#vcpus = Array.from(
      { length: vcpus },
      (_, index) => new GuestThread(entry, { ...shared, index }, onDeath),
    );
    this.#heartbeat = new GuestThread(new URL('heartbeat.ts', import.meta.url), {}, onDeath);
  }

  get status(): MachineStatus {
    return this.#status;
  }

  get stoppedBy(): Stopper | undefined {
    return this.#stoppedBy;
  }

  /** What it is padded to; what is more than that is small. */
  get deviceStateBytes(): number {
    return this.#identity?.paddedSize ?? 0;
  }

  get settings(): WorkloadSettings | undefined {
    return this.#identity?.settings;
  }

  /** Fills the memory of a fresh guest and leaves it paused. */
  boot(program: GuestProgram): Promise<void> {
    return this.#inTurn(async () => {
      await this.#program({ ...program, uuid: randomUUID() });
      await this.#eachVcpu('boot');
      this.#stand('paused', 'operator');
    });
  }

  /** Brings up the threads of a machine that waits for a guest to migrate in. */
  awaitMigration(): Promise<void> {
    return this.#inTurn(async () => {
      await Promise.all([this.#eachVcpu('pause'), this.#heartbeat.call('pause')]);
      this.#status = 'inmigrate';
    });
  }

  /** Resolves when every vCPU stands between two writes. False when the guest did not run. */
  suspend(by: Stopper): Promise<boolean> {
    return this.#inTurn(() => this.#stop('paused', by));
  }

  /** As `suspend`, for a reason of the guest's own. */
  fail(trouble: GuestTrouble): Promise<boolean> {
    return this.#inTurn(() => this.#stop(trouble));
  }

  /** Resolves after the guest's first heartbeat. False when it runs already. */
  resume(): Promise<boolean> {
    return this.#inTurn(async () => {
      if (this.#status === 'running') return false;
      if (this.#identity === undefined) throw notNow('resumed before its device state is loaded');
      // As with QEMU: what has stopped a guest may be mended, but there is nothing to go on with here.
      if (this.#status === 'shutdown') throw notNow('resumed: it has shut itself down');
      await Promise.all([this.#eachVcpu('run'), this.#heartbeat.call('run')]);
      this.#stand('running');
      return true;
    });
  }

  /** As `encodeDeviceState` makes it. */
  saveDeviceState(): Promise<Generator<Buffer>> {
    return this.#inTurn(async () => {
      if (this.#status !== 'paused' && this.#status !== 'postmigrate')
        throw notNow(`asked for its device state while it is ${this.#status}`);
      const [vcpus, heartbeat] = await Promise.all([
        this.#eachVcpu<VcpuState>('save'),
        this.heartbeat(),
      ]);
      if (this.#stoppedBy !== 'operator') this.#stand('postmigrate', 'agent');
      const { deviceModel } = this.description;
      return encodeDeviceState({ deviceModel, ...this.#identity!, vcpus, heartbeat });
    });
  }

  /** Everything that takes time happens here, so that `resume` only wakes the threads. */
  loadDeviceState(arrived: DeviceStateReader): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#status !== 'inmigrate') throw notNow(`given a device state: it is ${this.#status}`);
      const state = arrived.end(this.description.deviceModel);
      const { uuid, seed, mix, settings, paddedSize } = state;
      await this.#program({ uuid, seed, mix, settings, paddedSize });
      await Promise.all(this.#vcpus.map((vcpu, i) => vcpu.call('load', state.vcpus[i])));
      await this.#heartbeat.call('load', state.heartbeat);
      this.#stand('paused', 'agent');
    });
  }

  heartbeat(): Promise<HeartbeatState> {
    return this.#heartbeat.call<HeartbeatState>('look');
  }

  /** Pages that the vCPUs have written since the guest booted, wherever it ran. */
  async written(): Promise<number> {
    if (this.#identity === undefined) return 0;
    const vcpus = await this.#eachVcpu<VcpuState>('save');
    return vcpus.reduce((sum, vcpu) => sum + vcpu.written, 0);
  }

  /** Checks every page against the guest's own table. The vCPUs stop for it, the heartbeat does not. */
  selfCheck(): Promise<SelfCheck> {
    return this.#inTurn(async () => {
      if (this.#identity === undefined) throw notNow('checked before its device state is loaded');
      const running = this.#status === 'running';
      await this.#eachVcpu('pause');
      const slices = await this.#eachVcpu<SliceCheck>('check');
      if (running) await this.#eachVcpu('run');
      const pages = slices.reduce((sum, slice) => sum + slice.pages, 0);
      const bad = slices.reduce((sum, slice) => sum + slice.bad, 0);
      const badPfns = slices.flatMap((slice) => slice.badPfns);
      const tableConsistent = slices.every((slice) => slice.tableConsistent);
      return { pages, bad, badPfns, tableConsistent, clean: bad === 0 && tableConsistent };
    });
  }

  /** Changes what the vCPUs write, at once. */
  setWorkload(settings: WorkloadSettings): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#identity === undefined) throw notNow('given work before its device state');
      this.#identity = { ...this.#identity, settings };
      await this.#eachVcpu('plan', { ...this.#identity } satisfies VcpuProgram);
    });
  }

  async #stop(status: MachineStatus, by?: Stopper): Promise<boolean> {
    if (this.#status !== 'running') return false;
    await Promise.all([this.#heartbeat.call('pause'), this.#eachVcpu('pause')]);
    this.#stand(status, by);
    return true;
  }

  #stand(status: MachineStatus, by?: Stopper): void {
    this.#status = status;
    this.#stoppedBy = by;
  }

  async #program(identity: GuestProgram & { readonly uuid: string }): Promise<void> {
    const { seed, mix, settings } = identity;
    await this.#eachVcpu('program', { seed, mix, settings } satisfies VcpuProgram);
    this.#identity = identity;
  }

  #eachVcpu<Result = void>(operation: string, argument?: unknown): Promise<Result[]> {
    return Promise.all(this.#vcpus.map((vcpu) => vcpu.call<Result>(operation, argument)));
  }

  #inTurn<Result>(change: () => Promise<Result>): Promise<Result> {
    const done = this.#lastChange.then(change);
    this.#lastChange = done.catch(() => {});
    return done;
  }
}

function notNow(what: string): GodwitError {
  return new GodwitError('hypervisor-failed', `the guest cannot be ${what}`);
}
