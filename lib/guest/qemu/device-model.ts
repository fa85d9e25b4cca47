import { GodwitError } from '../../errors.ts';
import { CHUNK_PAGES, GuestLayout, PAGE_SIZE, type Region } from '../../memory/guest-layout.ts';
import { COMMAND, ELEMENT, type RamBlock } from '../../stream/qemu/format.ts';
import { StreamParser } from '../../stream/qemu/parser.ts';
import type { GuestDescription } from '../guest.ts';

export const HYPERVISOR = 'qemu';

/** What a destination QEMU must be told before the first page. */
export interface DeviceModel {
  /** The machine type, such as pc-q35-7.2. */
  readonly machine: string;
  /** What its first processor has, as `cpuFeatures` has it; empty where it was not told. */
  readonly cpu: string;
  /** The source's stream from "QEVM" through START of the RAM, verbatim. */
  readonly prologue: Buffer;
  /** Number of the RAM's section. */
  readonly sectionId: number;
  readonly blocks: readonly RamBlock[];
}

/** The device model of a description, as text. */
export function deviceModelOf({
  machine,
  cpu = '',
  prologue,
}: Pick<DeviceModel, 'machine' | 'prologue'> & Partial<DeviceModel>): string {
  const parts = [`machine=${machine}`, ...(cpu === '' ? [] : [`cpu=${cpu}`])];
  return `qemu-stream-3,${parts.join(',')},prologue=${prologue.toString('base64')}`;
}

const TEXT = /^qemu-stream-3,machine=([^,]+)(?:,cpu=([^,]+))?,prologue=(.+)$/;

/**
 * Reads what `deviceModelOf` made; it may come from a peer.
 * @throws GodwitError bad-message
 */
export function readDeviceModel(text: string): DeviceModel {
  const [, machine, cpu = '', base64] = TEXT.exec(text) ?? [];
  const prologue = Buffer.from(base64 ?? '', 'base64');
  if (machine === undefined || prologue.toString('base64') !== base64)
    throw refusal('its device model is not one of a QEMU stream');
  const { parser, blocks, opensReturnPath } = parse(prologue);
  if (parser.prologue?.length !== prologue.length)
    throw refusal('its prologue does not end with the list of RAM blocks');
  if (parser.machine !== machine)
    throw refusal(`its prologue is that of machine ${parser.machine}, not ${machine}`);
  if (!opensReturnPath) throw refusal('its prologue opens no return path');
  const sectionId = parser.ramSection!.id;
  return { machine, cpu, prologue, sectionId, blocks };
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

const SWITCHOVER = Buffer.from([ELEMENT.COMMAND, 0, COMMAND.SWITCHOVER_START, 0, 0]);
const LENGTH_BYTES = 4;
/** So many bytes of a device state, or all there are, show its head and that something follows it. */
export const STATE_HEAD_BYTES = LENGTH_BYTES + SWITCHOVER.length + 1;

/**
 * How a device state begins: u32 length of `beforeEnd` (big-endian) and `beforeEnd`, which is what stood
 * before END of the RAM: SWITCHOVER_START, or nothing. Device state, EOF and description follow.
 */
export function encodeStateHead(beforeEnd: Buffer): Buffer {
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32BE(beforeEnd.length);
  return Buffer.concat([length, beforeEnd]);
}

/**
 * @param first of the state: STATE_HEAD_BYTES, or all when it has fewer
 * @returns `beforeEnd`, and where what follows begins
 * @throws GodwitError device-state-invalid
 */
export function decodeStateHead(first: Buffer): { beforeEnd: Buffer; end: number } {
  const length = first.length < LENGTH_BYTES ? -1 : first.readUInt32BE();
  const end = LENGTH_BYTES + length;
  const beforeEnd = first.subarray(LENGTH_BYTES, Math.max(LENGTH_BYTES, end));
  const isKnown = length === 0 || beforeEnd.equals(SWITCHOVER);
  if (beforeEnd.length === length && isKnown && end < first.length) return { beforeEnd, end };
  const text = 'what the source sent is no device state of a QEMU guest';
  throw new GodwitError('device-state-invalid', text);
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
