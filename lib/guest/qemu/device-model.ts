import { GodwitError } from '../../errors.ts';
import { CHUNK_PAGES, GuestLayout, PAGE_SIZE, type Region } from '../../memory/guest-layout.ts';
import type { GuestDescription } from '../guest.ts';
import { COMMAND, ELEMENT, type RamBlock } from './stream/format.ts';
import { StreamParser } from './stream/parser.ts';

export const HYPERVISOR = 'qemu';

/** What a destination QEMU must be told before the first page. */
export interface DeviceModel {
  /** The machine type, such as pc-q35-7.2. */
  readonly machine: string;
  /** The source's stream from "QEVM" through START of the RAM, verbatim. */
  readonly prologue: Buffer;
  /** Number of the RAM's section. */
  readonly sectionId: number;
  readonly blocks: readonly RamBlock[];
}

/** The device model of a description, as text: the stream's version, the machine, the prologue. */
export function deviceModelOf({
  machine,
  prologue,
}: {
  machine: string;
  prologue: Buffer;
}): string {
  return `qemu-stream-3,machine=${machine},prologue=${prologue.toString('base64')}`;
}

/**
 * Reads what `deviceModelOf` made; it may come from a peer.
 * @throws GodwitError bad-message
 */
export function readDeviceModel(text: string): DeviceModel {
  const [, machine, base64] = /^qemu-stream-3,machine=([^,]+),prologue=(.+)$/.exec(text) ?? [];
  const prologue = Buffer.from(base64 ?? '', 'base64');
  if (machine === undefined || prologue.toString('base64') !== base64)
    throw refusal('its device model is not one of a QEMU stream');
  const { parser, blocks, opensReturnPath } = parse(prologue);
  if (parser.prologue?.length !== prologue.length)
    throw refusal('its prologue does not end with the list of RAM blocks');
  if (parser.machine !== machine)
    throw refusal(`its prologue is that of machine ${parser.machine}, not ${machine}`);
  if (!opensReturnPath) throw refusal('its prologue opens no return path');
  return { machine, prologue, sectionId: parser.ramSection!.id, blocks };
}

/**
 * The device model of a description whose regions are its RAM blocks.
 * @throws GodwitError bad-message
 */
export function checkDescription(description: GuestDescription): DeviceModel {
  const { hypervisor, deviceModel, regions } = description;
  if (hypervisor !== HYPERVISOR) throw refusal(`it is of hypervisor ${hypervisor}`);
  const model = readDeviceModel(deviceModel);
  const expected = regionsOf(model.blocks);
  new GuestLayout(expected); // as many and as large as a guest may have
  if (regions.length !== expected.length || !expected.every((own, i) => isSame(own, regions[i]!)))
    throw refusal('its regions are not the RAM blocks of its prologue');
  return model;
}

/**
 * A region for each RAM block that has pages, in the stream's order; each begins with the chunk
 * after the one before it.
 */
export function regionsOf(blocks: readonly RamBlock[]): Region[] {
  let firstPfn = 0;
  const regions: Region[] = [];
  for (const { name, length } of blocks) {
    if (length === 0) continue;
    const pages = length / PAGE_SIZE;
    regions.push({ name, firstPfn, pages });
    firstPfn += Math.ceil(pages / CHUNK_PAGES) * CHUNK_PAGES;
  }
  return regions;
}

/** What the source sent after its last page. */
export interface QemuState {
  /** What stood before END of the RAM: SWITCHOVER_START, or nothing. */
  readonly beforeEnd: Buffer;
  /** Device state, EOF and description. */
  readonly tail: Buffer;
}

const SWITCHOVER = Buffer.from([ELEMENT.COMMAND, 0, COMMAND.SWITCHOVER_START, 0, 0]);

/** As the device state of the migration: u32 length of `beforeEnd` (big-endian), `beforeEnd`, `tail`. */
export function encodeState({ beforeEnd, tail }: QemuState): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(beforeEnd.length);
  return Buffer.concat([length, beforeEnd, tail]);
}

/** Views of the bytes. @throws GodwitError device-state-invalid */
export function decodeState(state: Uint8Array): QemuState {
  const bytes = Buffer.from(state.buffer, state.byteOffset, state.byteLength);
  const length = bytes.length < 4 ? -1 : bytes.readUInt32BE();
  const beforeEnd = bytes.subarray(4, 4 + Math.max(0, length));
  const tail = bytes.subarray(4 + beforeEnd.length);
  const isKnown = length === 0 || beforeEnd.equals(SWITCHOVER);
  if (beforeEnd.length !== length || !isKnown || tail.length === 0)
    throw new GodwitError(
      'device-state-invalid',
      `the source sent ${bytes.length} bytes that are no device state of a QEMU guest`,
    );
  return { beforeEnd, tail };
}

function parse(prologue: Buffer) {
  let blocks: readonly RamBlock[] = [];
  let opensReturnPath = false;
  const parser = new StreamParser({
    blocks: (all) => {
      blocks = all;
    },
    command: (command) => {
      opensReturnPath ||= command === COMMAND.OPEN_RETURN_PATH;
    },
    page: () => {},
    zero: () => {},
    ramEnded: () => {},
    tail: () => {},
  });
  try {
    parser.feed(prologue);
  } catch (cause) {
    throw refusal((cause as Error).message, cause);
  }
  return { parser, blocks, opensReturnPath };
}

function isSame(own: Region, given: Region): boolean {
  return own.name === given.name && own.firstPfn === given.firstPfn && own.pages === given.pages;
}

function refusal(why: string, cause?: unknown): GodwitError {
  return new GodwitError('bad-message', `guest description: ${why}`, { cause });
}
