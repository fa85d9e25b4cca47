import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { GodwitError } from '../../../lib/errors.ts';
import type { GuestDescription } from '../../../lib/guest/guest.ts';
import {
  checkDescription,
  decodeStateHead,
  deviceModelOf,
  encodeStateHead,
  readDeviceModel,
  regionsOf,
  STATE_HEAD_BYTES,
} from '../../../lib/guest/qemu/device-model.ts';
import { GuestLayout } from '../../../lib/memory/guest-layout.ts';
import {
  BLOCKS,
  type Block,
  configuration,
  header,
  join,
  OPEN_RETURN_PATH,
  PAGE,
  PING,
  PROLOGUE,
  ramPart,
  ramStart,
  SWITCHOVER_START,
  tail,
  u32,
  zero,
} from '../../stream/qemu/builder.ts';
import { CAPTURES } from '../../stream/qemu/captures.ts';
import { describeRecorded } from './destination-site.ts';

const machine = 'pc-q35-7.2';

function described(prologue: Buffer, blocks: readonly Block[] = BLOCKS): GuestDescription {
  const regions = regionsOf(blocks.map(([name, length]) => ({ name, length })));
  const deviceModel = deviceModelOf({ machine, prologue });
  return { name: 'vm1', hypervisor: 'qemu', deviceModel, regions };
}

const prologueOf = (blocks: readonly Block[]) =>
  join(header(), configuration(machine), OPEN_RETURN_PATH, ramStart(blocks));

function refused(step: () => unknown, code: string): string {
  try {
    step();
  } catch (error) {
    expect(error).toBeInstanceOf(GodwitError);
    expect(error).toMatchObject({ code });
    return (error as Error).message;
  }
  throw new Error('it was taken');
}

describe('a device model', () => {
  test.each(CAPTURES)('of the recorded %s comes through', async (recording) => {
    const description = await describeRecorded(recording);
    const model = checkDescription(description);
    expect(model.prologue.subarray(0, 4).toString()).toBe('QEVM');
    expect(deviceModelOf(model)).toBe(description.deviceModel);
    expect(new GuestLayout(description.regions).totalPages * PAGE).toBe(
      model.blocks.reduce((sum, { length }) => sum + length, 0),
    );
  });

  test('holds what the prologue says', () => {
    const cpu = '1.ecx=2001+7.0.ebx=20';
    expect(readDeviceModel(deviceModelOf({ machine, cpu, prologue: PROLOGUE }))).toEqual({
      machine,
      cpu,
      prologue: PROLOGUE,
      sectionId: 2,
      blocks: BLOCKS.map(([name, length]) => ({ name, length })),
    });
  });

  test('gives each block with pages a region of whole chunks', () => {
    const blocks = [
      { name: 'a', length: 257 * PAGE },
      { name: 'empty', length: 0 },
      { name: 'b', length: 256 * PAGE },
      { name: 'c', length: PAGE },
    ];
    expect(regionsOf(blocks)).toEqual([
      { name: 'a', firstPfn: 0, pages: 257 },
      { name: 'b', firstPfn: 512, pages: 256 },
      { name: 'c', firstPfn: 768, pages: 1 },
    ]);
  });

  const text = deviceModelOf({ machine, prologue: PROLOGUE });
  const base64 = PROLOGUE.toString('base64');
  test.each([
    ['of another format', text.replace('stream-3', 'stream-4'), 'not one of a QEMU stream'],
    ['without a prologue', 'qemu-stream-3,machine=pc', 'not one of a QEMU stream'],
    ['with an odd prologue', text.replace(base64, `${base64}!`), 'not one of a QEMU stream'],
    ['of another machine', text.replace(machine, 'pc-i440fx-7.2'), `that of machine ${machine}`],
  ])('%s is refused', (_, model, why) => {
    expect(refused(() => readDeviceModel(model), 'bad-message')).toContain(why);
  });

  test.each([
    ['that is cut', PROLOGUE.subarray(0, -1), 'does not end with the list'],
    ['with pages behind it', join(PROLOGUE, ramPart([zero(0, 'pc.ram')])), 'does not end with'],
    ['with rubbish behind it', join(PROLOGUE, u32(0)), 'element EOF'],
    ['without a return path', join(header(), configuration(), PING, ramStart(BLOCKS)), 'no return'],
    ['that is no stream', Buffer.from('hello'), 'magic number'],
  ])('with a prologue %s is refused', (_, prologue, why) => {
    const step = () => readDeviceModel(deviceModelOf({ machine, prologue }));
    expect(refused(step, 'bad-message')).toContain(why);
  });

  test('with any byte changed is refused or read, and nothing else', () => {
    const change = fc.tuple(fc.nat(PROLOGUE.length - 1), fc.integer({ min: 1, max: 255 }));
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
        const prologue = Buffer.from(PROLOGUE);
        for (const [at, by] of changes) prologue[at]! ^= by;
        try {
          expect(readDeviceModel(deviceModelOf({ machine, prologue })).prologue).toEqual(prologue);
        } catch (error) {
          expect(error).toMatchObject({ name: 'GodwitError', code: 'bad-message' });
        }
      }),
    );
  });

  test('must be that of the regions', () => {
    const good = described(PROLOGUE);
    expect(checkDescription(good).machine).toBe(machine);
    const [first, second] = good.regions as [(typeof good.regions)[0], (typeof good.regions)[0]];
    const wrong = [
      [first],
      [second, first],
      [first, { ...second, name: 'pc.rom' }],
      [first, { ...second, pages: 3 }],
      [first, { ...second, firstPfn: 512 }],
    ];
    for (const regions of wrong)
      expect(refused(() => checkDescription({ ...good, regions }), 'bad-message')).toContain(
        'its regions are not the RAM blocks',
      );
  });

  test('may not be larger than a guest', () => {
    const large: Block[] = [['ram', 2 ** 44]];
    const step = () => checkDescription(described(prologueOf(large), large));
    expect(refused(step, 'bad-message')).toContain('16 TiB is the limit');
  });
});

describe('device state', () => {
  test.each([[Buffer.alloc(0)], [SWITCHOVER_START]])('comes through: %j', (beforeEnd) => {
    const whole = join(encodeStateHead(beforeEnd), tail());
    const { end, ...head } = decodeStateHead(whole.subarray(0, STATE_HEAD_BYTES));
    expect(head).toEqual({ beforeEnd });
    expect(whole.subarray(end)).toEqual(tail());
  });

  test('that is none is refused', () => {
    const whole = join(encodeStateHead(SWITCHOVER_START), tail());
    const wrong = [
      Buffer.alloc(0),
      whole.subarray(0, 3),
      whole.subarray(0, 8), // within what stood before END
      whole.subarray(0, 9), // no tail
      join(u32(0)),
      join(u32(2 ** 32 - 1), tail()),
      join(encodeStateHead(PING), tail()),
    ];
    for (const bytes of wrong)
      expect(
        refused(() => decodeStateHead(bytes.subarray(0, STATE_HEAD_BYTES)), 'device-state-invalid'),
      ).toContain('no device state');
  });
});
