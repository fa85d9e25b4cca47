import { expect, test } from 'vitest';
import { DEFAULT_MIX } from '../../../lib/guest/simulated/content-mix.ts';
import { describe as describeGuest, shapeOf } from '../../../lib/guest/simulated/device-model.ts';
import {
  type DeviceState,
  DeviceStateReader,
  encodeDeviceState,
} from '../../../lib/guest/simulated/device-state.ts';
import { NO_HEARTBEAT } from '../../../lib/guest/simulated/heartbeat-clock.ts';
import { workloadSettings } from '../../../lib/guest/simulated/workload.ts';

const MODEL = 'godwit-sim-2,vcpus=1';
const STATE: DeviceState = {
  deviceModel: MODEL,
  uuid: 'c0ffee',
  seed: 7,
  mix: DEFAULT_MIX,
  settings: workloadSettings('never-converging'),
  paddedSize: 4096,
  vcpus: [{ random: [-5, 3], position: 9, ranMs: 1.5, written: 77, sums: [-1, 2] }],
  heartbeat: { ...NO_HEARTBEAT, lastTick: { monotonic: 1.25, realtime: 2, bootId: 'x' } },
};

/** As a file would hold it. */
function encoded(state: DeviceState): Buffer {
  return Buffer.concat([...encodeDeviceState(state)]);
}

/** As it arrives in pieces of that size. */
function decodeDeviceState(bytes: Buffer, deviceModel: string, piece = 1000): DeviceState {
  const reader = new DeviceStateReader();
  for (let at = 0; at < bytes.length; at += piece) reader.add(bytes.subarray(at, at + piece));
  return reader.end(deviceModel);
}

test('comes back as it was, padded to its size', () => {
  const bytes = encoded(STATE);
  expect(bytes.length).toBe(4096);
  expect(decodeDeviceState(bytes, MODEL)).toEqual(STATE);
  const bare = encoded({ ...STATE, paddedSize: 0 });
  expect(bare.length).toBeLessThan(1500);
  for (const piece of [1, 3, 4, 5, 13, 4096])
    expect(decodeDeviceState(bare, MODEL, piece)).toEqual({ ...STATE, paddedSize: 0 });
});

test('any flipped bit is found', () => {
  const bytes = encoded(STATE);
  for (let bit = 0; bit < bytes.length * 8; bit += 13) {
    const damaged = Buffer.from(bytes);
    damaged[bit >> 3]! ^= 1 << (bit & 7);
    expect(() => decodeDeviceState(damaged, MODEL)).toThrow(/cannot be loaded/);
  }
});

test.each([0, 3, 15, 16, 4095])('cut to %i bytes it is refused', (length) => {
  const bytes = encoded(STATE).subarray(0, length);
  expect(() => decodeDeviceState(bytes, MODEL)).toThrow(/cannot be loaded/);
});

test('the state of another machine is refused', () => {
  const bytes = encoded(STATE);
  expect(() => decodeDeviceState(bytes, 'godwit-sim-2,vcpus=2')).toThrow(
    /this machine is .*vcpus=2/,
  );
});

test('a description names the machine that it is of', () => {
  const shape = { name: 'vm1', memory: 16 * 2 ** 20, vcpus: 3 };
  expect(shapeOf(describeGuest(shape))).toEqual(shape);
});

test.each([
  { hypervisor: 'qemu' },
  { deviceModel: 'godwit-sim-2,vcpus=0' },
  { deviceModel: 'godwit-sim-2,vcpus=17' },
  { name: '../evil' },
  { regions: [{ name: 'ram', firstPfn: 256, pages: 4096 }] },
  { regions: [] },
])('a description that is none is refused: %j', (part) => {
  const description = describeGuest({ name: 'vm1', memory: 16 * 2 ** 20, vcpus: 2 });
  expect(() => shapeOf({ ...description, ...part })).toThrow();
});
