import { GodwitError } from '../../../errors.ts';
import { ELEMENT } from './format.ts';

/**
 * What a tail may hold: a bare q35 has 32.5 KB, each virtio device some 45 KB more, and the
 * description about as much again; this is a thousand devices with room to spare.
 */
const LONGEST_TAIL = 64 * 1024 * 1024;

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
 */
export class DeviceTail {
  /** Grows by doubling; the first `#length` bytes are the tail. */
  #bytes: Buffer = Buffer.allocUnsafeSlow(64 * 1024);
  #length = 0;
  /** Before this byte every mark was looked at. */
  #searched = 0;
  /**
   * Where the description begins that may be the right one, and where it ends. Only the last
   * candidate counts: JSON has no byte of a mark, so none can follow the true one.
   */
  #start = 0;
  #end = -1;
  #complete = false;

  /**
   * Takes the next bytes; they are not needed after the call.
   * @throws GodwitError qemu-stream when the tail grows beyond what any guest needs
   */
  add(bytes: Buffer): void {
    const length = this.#length + bytes.length;
    if (length > LONGEST_TAIL)
      throw new GodwitError(
        'qemu-stream',
        `QEMU sent more than ${LONGEST_TAIL} bytes of device state`,
      );
    this.#reserve(length);
    bytes.copy(this.#bytes, this.#length);
    this.#length = length;
    this.#search();
    this.#complete =
      this.#end === length && listsDevices(this.#bytes.subarray(this.#start, length));
  }

  /** True when the last byte of the description is here. */
  get complete(): boolean {
    return this.#complete;
  }

  /** What was received, as a view. */
  bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  #reserve(length: number): void {
    if (length <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(length)));
    this.bytes().copy(larger);
    this.#bytes = larger;
  }

  /** Each byte is searched once: a mark counts when its six bytes and the first of JSON are here. */
  #search(): void {
    const all = this.bytes();
    for (;;) {
      const at = all.indexOf(MARK, this.#searched);
      if (at < 0) {
        this.#searched = Math.max(this.#searched, all.length - 1);
        return;
      }
      this.#searched = at;
      if (all.length - at <= MARK_SIZE) return;
      if (all[at + MARK_SIZE] === 0x7b) {
        this.#start = at + MARK_SIZE;
        this.#end = this.#start + all.readUInt32BE(at + MARK.length);
      }
      this.#searched = at + 1;
    }
  }
}

function listsDevices(json: Buffer): boolean {
  if (json.at(-1) !== 0x7d) return false;
  try {
    return Array.isArray(JSON.parse(json.toString()).devices);
  } catch {
    return false;
  }
}
