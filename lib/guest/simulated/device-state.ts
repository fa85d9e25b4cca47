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
 * Little endian: magic "GWDS", u32 version, u32 crc32 of all that follows, u32 length of
 * the JSON, the JSON, padding. The padding stands for what a real guest's vCPUs and virtio queues
 * hold; it does not compress.
 */
const MAGIC = 0x53445747;
const VERSION = 1;
const CHECKED_FROM = 12;
const HEADER_BYTES = 16;

export function encodeDeviceState(state: DeviceState): Buffer {
  const json = Buffer.from(JSON.stringify(state));
  const length = HEADER_BYTES + json.length;
  const bytes = Buffer.alloc(Math.max(length, state.paddedSize));
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt32LE(VERSION, 4);
  bytes.writeUInt32LE(json.length, 12);
  bytes.set(json, HEADER_BYTES);
  const random = new Random(state.seed);
  // Inside a suspension, so a word at a time.
  for (let at = length; at + 4 <= bytes.length; at += 4) bytes.writeUInt32LE(random.next(), at);
  bytes.writeUInt32LE(crc32(bytes.subarray(CHECKED_FROM)), 8);
  return bytes;
}

/**
 * @param deviceModel of the machine that is to load the state
 * @throws GodwitError device-state-invalid for damaged bytes or another model's state
 */
export function decodeDeviceState(bytes: Buffer, deviceModel: string): DeviceState {
  if (bytes.length < HEADER_BYTES) throw invalid(`${bytes.length} bytes are too few`);
  if (bytes.readUInt32LE(0) !== MAGIC) throw invalid('it is not of a simulated guest');
  const version = bytes.readUInt32LE(4);
  if (version !== VERSION) throw invalid(`version ${version} is not known here, only ${VERSION}`);
  if (bytes.readUInt32LE(8) !== crc32(bytes.subarray(CHECKED_FROM)))
    throw invalid('its checksum does not match');
  const json = bytes.subarray(HEADER_BYTES, HEADER_BYTES + bytes.readUInt32LE(12));
  const state = parse(json.toString());
  if (state.deviceModel !== deviceModel)
    throw invalid(`it is for device model ${state.deviceModel}, this machine is ${deviceModel}`);
  return state;
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
