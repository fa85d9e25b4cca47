import assert from 'node:assert/strict';
import type { DestinationGuest, GuestDescription } from '../../../lib/guest/guest.ts';
import { deviceModelOf, encodeStateHead, regionsOf } from '../../../lib/guest/qemu/device-model.ts';
import { GuestLayout, PAGE_SIZE } from '../../../lib/memory/guest-layout.ts';
import { GuestMemory } from '../../../lib/memory/guest-memory.ts';
import { PageSet } from '../../../lib/memory/page-set.ts';
import { DeviceTail } from '../../../lib/stream/qemu/device-tail.ts';
import type { RamBlock } from '../../../lib/stream/qemu/format.ts';
import { StreamParser } from '../../../lib/stream/qemu/parser.ts';
import { spoolOf } from '../states.ts';

/** Bytes of the source's stream between two calls of pagesArrived. */
const ROUND_BYTES = 16 << 20;
const ZEROS = Buffer.alloc(PAGE_SIZE);

interface Page {
  readonly pfn: number;
  /** Undefined: zeros. */
  readonly bytes: Buffer | undefined;
}

/**
 * Takes a source QEMU's stream and brings what is in it to a destination, in the place of the
 * agents and their workers: pages are written to the destination's files, the rest is handed over.
 */
export class Courier {
  description!: GuestDescription;
  destination!: DestinationGuest;
  /** In pages: what was brought, and in how many rounds. */
  pages = 0;
  rounds = 0;
  readonly #name: string;
  readonly #parser: StreamParser;
  readonly #tail = new DeviceTail();
  readonly #after: Buffer[] = [];
  #layout!: GuestLayout;
  #memory!: GuestMemory;
  #round!: PageSet;
  #written!: PageSet;
  #bytesInRound = 0;
  #pending: Page[] = [];
  #ramEnded = false;

  /** @param onPing with the u32 that is to be answered */
  constructor(name: string, onPing: (value: number) => void = () => {}) {
    this.#name = name;
    const take = (block: number, offset: number, bytes?: Buffer) => {
      const { firstPfn } = this.#layout.regions[block]!;
      this.#pending.push({ pfn: firstPfn + offset / PAGE_SIZE, bytes });
    };
    this.#parser = new StreamParser({
      blocks: (blocks) => this.#describe(blocks),
      command: (_command, payload) => payload.length === 4 && onPing(payload.readUInt32BE()),
      page: (block, offset, bytes, at) =>
        take(block, offset, Buffer.from(bytes.subarray(at, at + PAGE_SIZE))),
      zero: take,
      ramEnded: () => {
        this.#ramEnded = true;
      },
      tail: (bytes) => {
        this.#tail.add(bytes);
        this.#after.push(Buffer.from(bytes));
      },
    });
  }

  /** Takes bytes of the stream; `ready` makes the destination once it is known what it has to be. */
  async take(bytes: Buffer, ready: (of: GuestDescription) => Promise<DestinationGuest>) {
    this.#parser.feed(bytes);
    if (this.description === undefined) return;
    if (this.destination === undefined) this.#goTo(await ready(this.description));
    for (const page of this.#pending.splice(0)) this.#write(page);
    this.#bytesInRound += bytes.length;
    if (this.#bytesInRound >= ROUND_BYTES) await this.endRound();
  }

  /** Everything that the source had to say is here. */
  get complete(): boolean {
    return this.#tail.complete;
  }

  get pfnEnd(): number {
    return this.#layout.pfnEnd;
  }

  get state(): Buffer {
    assert(this.#ramEnded);
    return Buffer.concat([encodeStateHead(this.#parser.beforeEnd), ...this.#after]);
  }

  async endRound(): Promise<void> {
    this.rounds++;
    this.#bytesInRound = 0;
    const sent = this.destination.pagesArrived!(this.#round);
    this.#round.clear(); // the destination has taken note
    await sent;
  }

  /** Hands over what is left. */
  async finish(): Promise<void> {
    await this.endRound();
    await this.destination.loadDeviceState(spoolOf(this.state));
  }

  close(): void {
    this.#memory?.close();
  }

  #describe(blocks: readonly RamBlock[]): void {
    assert(blocks.every(({ length }) => length > 0)); // then a block's number is its region's
    const regions = regionsOf(blocks);
    const { machine, prologue } = this.#parser as { machine: string; prologue: Buffer };
    const deviceModel = deviceModelOf({ machine, prologue });
    this.description = { name: this.#name, hypervisor: 'qemu', deviceModel, regions };
    this.#layout = new GuestLayout(regions);
    this.#round = new PageSet(this.#layout.pfnEnd);
    this.#written = new PageSet(this.#layout.pfnEnd);
  }

  #goTo(destination: DestinationGuest): void {
    this.destination = destination;
    this.#memory = new GuestMemory(destination.memory, 'read-write');
  }

  /** Like the receiver's workers: a page that was never anything else reads as zeros already. */
  #write({ pfn, bytes }: Page): void {
    this.pages++;
    this.#round.add(pfn);
    if (bytes === undefined && !this.#written.has(pfn)) return;
    this.#written.add(pfn);
    this.#memory.write(pfn, 1, bytes ?? ZEROS, 0);
  }
}
