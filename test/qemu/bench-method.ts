import type { Network } from '../e2e/hosts.ts';
import type { Machine } from './bench-machine.ts';

/** Two QEMUs: one whose guest runs, one that waits for it. */
export interface Bed {
  /** For whatever else is needed. */
  readonly dir: string;
  readonly network: Network;
  readonly source: Machine;
  readonly destination: Machine;
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
  /** Resolves when the guest runs at its destination and the source has let go of it. */
  move(): Promise<void>;
  end(): Promise<void>;
}
