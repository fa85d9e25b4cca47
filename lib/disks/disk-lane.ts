import type { Crew, Task } from '../crew/crew.ts';
import type { GodwitError } from '../errors.ts';
import { COUNTERS_SIZE, Counters } from '../pages/counters.ts';
import {
  RECEIVE_DISKS,
  type ReceiveDisksData,
  type ReceiveDisksRequests,
  SEND_DISKS,
  type SendDisksData,
  type SendDisksRequests,
} from './disk-protocol.ts';

type OnFailure = (error: GodwitError) => void;

/** What both ends have counted, bytes. */
class Counted {
  readonly buffer = new SharedArrayBuffer(COUNTERS_SIZE);
  readonly #counters = new Counters(this.buffer);

  /** To the destination's disks, with what NBD has around it. */
  get bytes(): number {
    return this.#counters.get('wireBytes');
  }

  /** From the other agent, of whatever. */
  get heardBytes(): number {
    return this.#counters.get('heardBytes');
  }
}

/** The lane on which a guest's disks go, as its sender has it. */
export class DiskLane {
  readonly counted = new Counted();
  readonly #task: Task<SendDisksRequests>;

  /** `open` connects it. @param onFailure called when it fails outside a request */
  constructor(crew: Crew, data: Omit<SendDisksData, 'counters'>, onFailure: OnFailure) {
    const counters = this.counted.buffer;
    this.#task = crew.begin(SEND_DISKS, { ...data, counters }, onFailure);
  }

  /** Connects to the destination; resolves when the hypervisor may connect here. */
  async open(): Promise<void> {
    await this.#task.request('open', undefined);
  }

  /** The control connection is dead, for that reason: this one probably is, too. */
  suspect(reason: string): void {
    this.#task.request('suspect', reason).catch(() => {});
  }

  close(): Promise<void> {
    return this.#task.stop();
  }
}

/** The same as its receiver has it. */
export class DiskDoor {
  readonly counted = new Counted();
  readonly #task: Task<ReceiveDisksRequests>;

  constructor(crew: Crew, data: Omit<ReceiveDisksData, 'counters'>, onFailure: OnFailure) {
    const counters = this.counted.buffer;
    this.#task = crew.begin(RECEIVE_DISKS, { ...data, counters }, onFailure);
  }

  /** Resolves to the port. @throws GodwitError listen-failed */
  listen(): Promise<number> {
    return this.#task.request('listen', undefined);
  }

  close(): Promise<void> {
    return this.#task.stop();
  }
}
