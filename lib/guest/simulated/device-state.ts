import { crc32 } from 'node:zlib';
import { GodwitError } from '../../errors.ts';
import type { ContentMix } from './content-mix.ts';
import type { HeartbeatState } from './heartbeat-clock.ts';
import { Random } from './random.ts';
import type { VcpuState } from './vcpu.ts';
import type { WorkloadSettings } from './workload.ts';

/** All that a guest is besides its memory. */
export interface DeviceState {
  readonly deviceModel: string;
  readonly uuid: string;
  readonly seed: number;
  readonly mix: ContentMix;
  readonly settings: WorkloadSettings;
  /** Bytes that the encoded state is padded to. */
  readonly paddedSize: number;
  readonly vcpus: readonly VcpuState[];
  readonly heartbeat: HeartbeatState;
}

/*
 * Little endian: magic "GWDS", u32 version, u32 length of the JSON, the JSON, padding, u32 crc32 of all
 * that stands before. The padding stands for what a real guest's vCPUs and virtio queues hold; it does
 * not compress.
 */
const MAGIC = 0x53445747;
const VERSION = 2;
const HEADER_BYTES = 12;
const TRAILER_BYTES = 4;
/** Of 16 vCPUs it is a few KiB. */
const MAX_JSON_BYTES = 1 << 20;

/** Bytes of padding made at a time: a fraction of a millisecond. */
const PIECE_BYTES = 256 << 10;

/**
 * The encoded state in pieces, one after the other: whoever makes a large one inside a suspension has
 * the first of them under way early, and can look in between whether the guest is to run again.
 */
export function* encodeDeviceState(state: DeviceState): Generator<Buffer> {
  const json = Buffer.from(JSON.stringify(state));
  const head = Buffer.alloc(HEADER_BYTES);
  head.writeUInt32LE(MAGIC, 0);
  head.writeUInt32LE(VERSION, 4);
  head.writeUInt32LE(json.length, 8);
  const first = Buffer.concat([head, json]);
  let checksum = crc32(first);
  yield first;
  const random = new Random(state.seed);
  const end = state.paddedSize - TRAILER_BYTES;
  for (let at = first.length; at < end; at += PIECE_BYTES) {
    const length = Math.min(PIECE_BYTES, end - at);
    const words = new Uint32Array(Math.ceil(length / 4)); // what it holds is never looked at
    for (let i = 0; i < words.length; i++) words[i] = random.next();
    const bytes = Buffer.from(words.buffer, 0, length);
    checksum = crc32(bytes, checksum);
    yield bytes;
  }
  const trailer = Buffer.alloc(TRAILER_BYTES);
  trailer.writeUInt32LE(checksum);
  yield trailer;
}

/** An encoded state as it arrives: what it says is kept, and the padding only summed. */
export class DeviceStateReader {
  /** The header and the JSON, as far as they are here. */
  #first: Buffer = Buffer.alloc(0);
  /** The last bytes may be the checksum, which is not summed. */
  #last: Buffer = Buffer.alloc(0);
  #checksum = 0;
  #bytes = 0;

  /** Taken so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Takes the next bytes; they are not needed after the call. */
  add(bytes: Buffer): void {
    this.#bytes += bytes.length;
    if (this.#first.length < this.#firstBytes)
      this.#first = Buffer.concat([this.#first, bytes.subarray(0, HEADER_BYTES + MAX_JSON_BYTES)]);
    const held = bytes.length < TRAILER_BYTES ? Buffer.concat([this.#last, bytes]) : bytes;
    if (held === bytes) this.#sum(this.#last);
    const cut = Math.max(0, held.length - TRAILER_BYTES);
    this.#sum(held.subarray(0, cut));
    this.#last = Buffer.from(held.subarray(cut));
  }

  /**
   * @param deviceModel of the machine that is to load the state
   * @throws GodwitError device-state-invalid for damaged bytes or another model's state
   */
  end(deviceModel: string): DeviceState {
    const first = this.#first;
    if (this.#bytes < HEADER_BYTES + TRAILER_BYTES)
      throw invalid(`${this.#bytes} bytes are too few`);
    if (first.readUInt32LE(0) !== MAGIC) throw invalid('it is not of a simulated guest');
    const version = first.readUInt32LE(4);
    if (version !== VERSION) throw invalid(`version ${version} is not known here, only ${VERSION}`);
    if (this.#last.readUInt32LE(0) !== this.#checksum) throw invalid('its checksum does not match');
    const state = parse(first.subarray(HEADER_BYTES, this.#firstBytes).toString());
    if (state.deviceModel !== deviceModel)
      throw invalid(`it is for device model ${state.deviceModel}, this machine is ${deviceModel}`);
    return state;
  }

  /** Where the JSON ends, as far as that is known. */
  get #firstBytes(): number {
    if (this.#first.length < HEADER_BYTES) return HEADER_BYTES + MAX_JSON_BYTES;
    return HEADER_BYTES + Math.min(MAX_JSON_BYTES, this.#first.readUInt32LE(8));
  }

  #sum(bytes: Buffer): void {
    this.#checksum = crc32(bytes, this.#checksum);
  }
}

function parse(json: string): DeviceState {
  try {
    return JSON.parse(json) as DeviceState;
  } catch {
    throw invalid('its description is not JSON');
  }
}

function invalid(why: string): GodwitError {
  return new GodwitError('device-state-invalid', `the device state cannot be loaded: ${why}`);
}
