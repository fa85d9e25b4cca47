import { GodwitError } from '../../errors.ts';
import { ELEMENT } from './format.ts';

/** What a tail may hold: as much as the device state of any guest, of which 64 MiB are a passed-through device's. */
const LONGEST_TAIL = 256 * 1024 * 1024;

/** EOF, VMDESCRIPTION, u32 length: what stands before the description. */
const MARK = Buffer.from([ELEMENT.EOF, ELEMENT.VMDESCRIPTION]);
const MARK_SIZE = 6;

/**
 * What a source QEMU sends after END of the RAM: device state, EOF and the description in JSON.
 * Device state has no lengths and the source waits for the return path's SHUT instead of closing,
 * so the end is known by the description alone: it gives its length, and must end where the bytes
 * end and be JSON that lists devices.
 *
 * Device state holds bytes that the guest chose, so a guest can forge an end. That is harmless: the
 * tail is then cut short, the destination QEMU fails to load it, and the migration is aborted with
 * the guest on its source. Nothing is decided by it but when to stop waiting.
 *
 * Nothing is kept of it but what may be the description.
 */
export class DeviceTail {
  #length = 0;
  /** The last bytes: a mark may begin in them that is not all here yet. */
  #carry: Buffer = Buffer.alloc(0);
  /**
   * The description that may be the right one: where it ends, and what is here of it. Only the last
   * candidate counts: JSON has no byte of a mark, so none can follow the true one.
   */
  #candidate: { readonly end: number; readonly pieces: Buffer[] } | undefined;
  #complete = false;

  /**
   * Takes the next bytes; they are not needed after the call.
   * @throws GodwitError qemu-stream when the tail grows beyond what any guest needs
   */
  add(bytes: Buffer): void {
    const window = Buffer.concat([this.#carry, bytes]);
    const base = this.#length - this.#carry.length;
    this.#length += bytes.length;
    if (this.#length > LONGEST_TAIL)
      throw new GodwitError(
        'qemu-stream',
        `QEMU sent more than ${LONGEST_TAIL} bytes of device state`,
      );
    const start = lastDescription(window);
    if (start === undefined) this.#candidate?.pieces.push(Buffer.from(bytes));
    else {
      const end = base + start + window.readUInt32BE(start - 4);
      this.#candidate = { end, pieces: [Buffer.from(window.subarray(start))] };
    }
    if (this.#candidate && this.#candidate.end < this.#length) this.#candidate = undefined;
    this.#carry = Buffer.from(window.subarray(-MARK_SIZE));
    const ended = this.#candidate?.end === this.#length ? this.#candidate : undefined;
    this.#complete = ended !== undefined && listsDevices(Buffer.concat(ended.pieces));
  }

  /** True when the last byte of the description is here. */
  get complete(): boolean {
    return this.#complete;
  }
}

/** Where the last one may begin: a mark counts when its six bytes and the first of JSON are here. */
function lastDescription(bytes: Buffer): number | undefined {
  let start: number | undefined;
  for (let at = bytes.indexOf(MARK); at !== -1; at = bytes.indexOf(MARK, at + 1))
    if (bytes[at + MARK_SIZE] === 0x7b) start = at + MARK_SIZE;
  return start;
}

function listsDevices(json: Buffer): boolean {
  if (json.at(-1) !== 0x7d) return false;
  try {
    return Array.isArray(JSON.parse(json.toString()).devices);
  } catch {
    return false;
  }
}
