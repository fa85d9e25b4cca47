import net from 'node:net';
import type { Begin } from '../crew/task.ts';
import { GodwitError } from '../errors.ts';
import { Counters } from '../pages/counters.ts';
import type { Connection } from '../wire/connection.ts';
import { LaneDoor } from '../wire/lane-door.ts';
import { Link } from '../wire/link.ts';
import type { ReceiveDisksData, ReceiveDisksRequests } from './disk-protocol.ts';
import { Streams } from './streams.ts';

/** Longest time in which a sender that owes acknowledgements is not heard, ms; it is who connects again. */
const STALL_MS = 60_000;

/** The disk lane at its destination: what comes is a connection to the hypervisor that has the disks. */
class ReceiveDisks {
  readonly #data: ReceiveDisksData;
  readonly #onFailure: (error: GodwitError) => void;
  readonly #counters: Counters;
  readonly #streams: Streams;
  readonly #door: LaneDoor;
  #link: Link | undefined;
  #over = false;

  constructor(data: ReceiveDisksData, onFailure: (error: GodwitError) => void) {
    this.#data = data;
    this.#onFailure = onFailure;
    this.#counters = new Counters(data.counters);
    this.#streams = new Streams({
      link: () => this.#link!,
      pass: async () => {}, // answers are small
      onTaken: (bytes) => this.#counters.add('wireBytes', bytes),
      accept: () => net.connect(data.path),
    });
    const onOpen = (lane: Connection, received: number) => this.#take(lane, received);
    this.#door = new LaneDoor({ ...data, onOpen });
  }

  listen(): Promise<number> {
    return this.#door.listen();
  }

  close(): void {
    this.#over = true;
    this.#streams.close();
    this.#link?.close();
    this.#door.close();
  }

  /** The sender's connection, or the one that takes the place of a lost one. */
  #take(lane: Connection, peerReceived: number): void {
    const greet = (received: number) =>
      void lane.send('LaneReady', { lane: this.#data.lane, received });
    if (this.#link) return this.#link.join(lane, peerReceived, greet);
    greet(0);
    this.#link = new Link(lane, {
      onMessage: (received) => this.#streams.take(received),
      onInput: (bytes) => this.#counters.add('heardBytes', bytes),
      mayRejoin: () => true,
      giveUpMs: undefined, // as long as the migration lives
      stallMs: STALL_MS,
      onLost: () => {},
      onClose: (error = new GodwitError('peer-closed', 'the disk connection was closed')) => {
        this.#streams.close();
        if (!this.#over) this.#onFailure(error);
      },
    });
  }
}

export const begin: Begin<ReceiveDisksData, ReceiveDisksRequests> = (data, fail) => {
  const disks = new ReceiveDisks(data, fail);
  return { handlers: { listen: () => disks.listen() }, close: () => disks.close() };
};
