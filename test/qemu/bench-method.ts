import type { ChildProcess } from 'node:child_process';
import type { QmpClient } from '../../lib/guest/qemu/qmp.ts';
import type { Network } from '../e2e/hosts.ts';

/** One of the two QEMUs, whatever its guest does. */
export interface Qemu {
  /** On a monitor that the agents do not use. */
  readonly qmp: QmpClient;
  readonly monitor: string;
  readonly process: ChildProcess;
  /** RAM file (share=on); anonymous memory if not given. */
  readonly ram: string | undefined;
}

/** Two QEMUs: one whose guest runs, one that waits for it. */
export interface Bed {
  /** For whatever else is needed. */
  readonly dir: string;
  /** The same in memory, with the destination's RAM file. */
  readonly memoryDir: string;
  readonly network: Network;
  readonly source: Qemu;
  readonly destination: Qemu;
}

/** A way to move a guest, to be compared with others. */
export interface Method {
  readonly name: string;
  /** Of the destination: a RAM file that others may write, or what QEMU takes by itself. */
  readonly memory: 'file' | 'anonymous';
  open(bed: Bed): Promise<Mover>;
}

/** Everything is up and has only to be told. */
export interface Mover {
  /** Its processes, apart from the QEMUs. */
  readonly pids: readonly number[];
  /**
   * Resolves when the guest runs at its destination and the source has let go of it.
   * @throws GivenUp when it cannot be moved within its limits, and runs on at its source
   */
  move(): Promise<void>;
  end(): Promise<void>;
}

/** What a move of a guest that writes too fast comes to: nothing is broken. */
export class GivenUp extends Error {}
