import fs from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { DestinationGuest, GuestCopy, GuestDescription } from '../../../lib/guest/guest.ts';
import { isAlive } from '../../../lib/guest/process-identity.ts';
import { attachQemu } from '../../../lib/guest/qemu/copy.ts';
import type { GuestDefinition } from '../../../lib/guest/qemu/definition.ts';
import { startQemuDestination } from '../../../lib/guest/qemu/destination.ts';
import { deviceModelOf, regionsOf } from '../../../lib/guest/qemu/device-model.ts';
import { QmpClient } from '../../../lib/guest/qemu/qmp.ts';
import { GuestMemory } from '../../../lib/memory/guest-memory.ts';
import { PageSet } from '../../../lib/memory/page-set.ts';
import { crewOfTest } from '../../crew/crew-of-test.ts';
import { until } from '../../e2e/hosts.ts';
import { halt } from '../../halt.ts';
import { type QemuVersion, titled, whyNoQemu } from '../../qemu/guest/installed.ts';
import {
  type Block,
  configuration,
  header,
  join,
  OPEN_RETURN_PATH,
  ramStart,
} from '../../stream/qemu/builder.ts';
import { spoolOf } from '../states.ts';
import type { Courier } from './courier.ts';
import {
  bring,
  DestinationSite,
  describeRecorded,
  imageOf,
  type Machine,
  refusal,
  VIRTIO,
} from './destination-site.ts';

const crew = crewOfTest();

const MIB = 2 ** 20;
const PAGE = 4096;
const VERSIONS: readonly QemuVersion[] = ['10.0', '7.2'];
const CASES: readonly Machine[] = VERSIONS.flatMap((qemu) => [
  { qemu, placement: 'direct' },
  { qemu, placement: 'stream' },
]);
const DIRECT: Machine = { qemu: '10.0', placement: 'direct' };
const STREAM: Machine = { qemu: '10.0', placement: 'stream' };

let site: DestinationSite;
/** What a test has brought to `site`. */
const brought: Courier[] = [];

beforeEach(() => {
  site = new DestinationSite();
});

afterEach(async () => {
  for (const courier of brought.splice(0)) {
    courier.close();
    courier.destination.close();
  }
  await site.remove();
});

async function bringTo(definition: GuestDefinition, recording: string): Promise<Courier> {
  const ready = (description: GuestDescription) => site.startDestination(definition, description);
  const courier = await bring(recording, ready);
  brought.push(courier);
  return courier;
}

/** Of a guest with these RAM blocks. */
function describeBlocks(blocks: readonly Block[]): GuestDescription {
  const machine = 'pc-q35-10.0';
  const prologue = join(header(), configuration(machine), OPEN_RETURN_PATH, ramStart(blocks));
  const regions = regionsOf(blocks.map(([name, length]) => ({ name, length })));
  const deviceModel = deviceModelOf({ machine, prologue });
  return { name: 'vm1', hypervisor: 'qemu', deviceModel, regions };
}

async function found(handle: string): Promise<GuestCopy> {
  const copy = await attachQemu(handle);
  if (copy === 'gone') throw new Error('the copy is gone');
  return copy;
}

function identityOf(guest: DestinationGuest): { pid: number; startTime: number } {
  return JSON.parse(guest.handle);
}

describe.skipIf(whyNoQemu())(titled('a destination QEMU'), () => {
  test.each(CASES)('$qemu takes a guest, $placement', async (of) => {
    const recording = `q35-${of.qemu}`;
    const courier = await bringTo(site.definition(of), recording);
    const { destination } = courier;
    const staged = destination.memory.filter(({ path }) => path !== site.ramFile);
    const names = staged.map(({ region }) => region.name);
    expect(names).toContain('pc.bios');
    expect(names.includes('ram')).toBe(of.placement === 'stream');
    expect(fs.statSync(staged[0]!.path).mode & 0o777).toBe(0o600);
    await courier.finish();
    expect(fs.readdirSync(site.memoryDir)).toEqual(['ram']); // nothing is staged any more
    expect(fs.readFileSync(site.ramFile).equals(imageOf(recording, 'ram', 8 * MIB))).toBe(true);
    destination.close();
    const copy = await found(destination.handle);
    await copy.resume();
    await copy.resume();
    await copy.suspend();
    await copy.resume();
    expect(await copy.suspension()).toBeUndefined();
    await copy.destroy();
    site.expectNothingLeft(of);
    expect(await attachQemu(destination.handle)).toBe('gone');
  });

  test.each(CASES)('$qemu ends when its agent goes away in the middle, $placement', async (of) => {
    const { destination } = await bringTo(site.definition(of), `q35-${of.qemu}`);
    destination.close();
    await until(() => !isAlive(identityOf(destination)), 'QEMU has ended by itself');
    expect(await attachQemu(destination.handle)).toBe('gone');
    site.expectNothingLeft(of);
  });

  test('gets what is in its staging file when a round has ended', async () => {
    const courier = await bringTo(site.definition(STREAM), 'q35-10.0');
    const { destination } = courier;
    await courier.endRound();
    const { region } = destination.memory.find(({ region }) => region.name === 'ram')!;
    const memory = new GuestMemory(destination.memory, 'read-write');
    const expected = imageOf('q35-10.0', 'ram', 8 * MIB);
    const round = new PageSet(courier.pfnEnd);
    const write = (page: number, fill: number) => {
      const bytes = Buffer.alloc(PAGE, fill);
      memory.write(region.firstPfn + page, 1, bytes, 0);
      bytes.copy(expected, page * PAGE);
      round.add(region.firstPfn + page);
    };
    for (let page = 1; page < 2000; page += 3) write(page, page); // more than one PART of scattered pages
    await destination.pagesArrived!(round);
    round.clear();
    for (let page = 1; page < 1000; page += 3) write(page, 0); // zeros after what was not
    for (let page = 256; page < 900; page++) write(page, 7); // runs across chunks
    const sent = destination.pagesArrived!(round);
    round.clear();
    write(1999, 9);
    const sentAfter = destination.pagesArrived!(round);
    await Promise.all([sent, sentAfter]);
    memory.close();
    await destination.loadDeviceState(spoolOf(courier.state));
    expect(fs.readFileSync(site.ramFile).equals(expected)).toBe(true);
  });

  test('that was there already takes a guest, and does not run it by itself', async () => {
    for (const of of [DIRECT, STREAM]) {
      const { pid } = await site.start(site.command(of), '-incoming', 'defer'); // without -S
      const qmp = await QmpClient.connect(site.qmp);
      // If that stayed on, QEMU would wait for ever for more connections.
      const capabilities = [{ capability: 'multifd', state: true }];
      await qmp.execute('migrate-set-capabilities', { capabilities });
      qmp.close();
      const courier = await bringTo(site.withoutCommand(of), 'q35-10.0');
      await courier.finish();
      expect(identityOf(courier.destination).pid).toBe(pid);
      expect(fs.readFileSync(site.ramFile).equals(imageOf('q35-10.0', 'ram', 8 * MIB))).toBe(true);
      await courier.destination.resume();
      await courier.destination.destroy();
      site.expectNothingLeft(of);
      fs.rmSync(site.ramFile, { force: true });
    }
  });
});

describe.skipIf(whyNoQemu())(titled('a destination QEMU in its own words'), () => {
  /** A failure must not stand in the way of the next attempt. */
  async function thenItWorks(of: Machine): Promise<void> {
    site.expectNothingLeft(of);
    fs.rmSync(site.ramFile, { force: true });
    const courier = await bringTo(site.definition(of), `q35-${of.qemu}`);
    await courier.finish();
    await courier.destination.destroy();
    site.expectNothingLeft(of);
  }

  const prologue: [string, QemuVersion, Partial<Machine>, RegExp][] = [
    [
      'an unknown machine',
      '10.0',
      { machine: 'pc-abacus' },
      /exited with 1: .*unsupported machine/,
    ],
    [
      'another machine',
      '10.0',
      { machine: 'pc' },
      /Machine type received is 'pc-q35-10.0' and local/,
    ],
    [
      'another machine',
      '7.2',
      { machine: 'pc' },
      /Machine type received is 'pc-q35-7.2' and local/,
    ],
    ['other memory', '10.0', { memory: '16M' }, /Size mismatch: ram: 0x800000 != 0x1000000/],
    ['other memory', '7.2', { memory: '16M' }, /Size mismatch: ram: 0x800000 != 0x1000000/],
  ];
  test.each(prologue)('refuses %s, %s', async (_, qemu, other, words) => {
    const of: Machine = { qemu, placement: 'stream', ...other };
    const start = bringTo(site.definition(of), `q35-${qemu}`);
    expect(await refusal(start, 'hypervisor-failed')).toMatch(words);
    await thenItWorks({ qemu, placement: 'stream' });
  });

  test.each(CASES)('refuses a device that it does not have, $qemu $placement', async (of) => {
    const devices = VIRTIO.slice(0, 2);
    const courier = await bringTo(site.definition({ ...of, devices }), `q35-${of.qemu}`);
    const message = await refusal(courier.finish(), 'device-state-invalid');
    expect(message).toMatch(
      /^QEMU of guest vm1 does not take the guest's device state: .*Unknown savevm section or instance '.*virtio-console'/,
    );
    await courier.destination.destroy();
    await thenItWorks(of);
  });

  test.each(VERSIONS)('refuses device state that is spoiled, %s', async (qemu) => {
    const of: Machine = { qemu, placement: 'direct' };
    const courier = await bringTo(site.definition(of), `q35-${qemu}`);
    const { destination, state } = courier;
    await courier.endRound();
    const spoiled = Buffer.concat([state.subarray(0, 2000), state.subarray(2001)]);
    const message = await refusal(
      destination.loadDeviceState(spoolOf(spoiled)),
      'device-state-invalid',
    );
    expect(message).toMatch(/^QEMU of guest vm1 does not take the guest's device state: .*load/);
    await destination.destroy();
    await thenItWorks(of);
  });

  test('that was there already says why, too', async () => {
    const of: Machine = { ...STREAM, memory: '16M' };
    await site.start(site.command(of), '-incoming', 'defer', '-S');
    const start = bringTo(site.withoutCommand(of), 'q35-10.0');
    expect(await refusal(start, 'hypervisor-failed')).toContain('Size mismatch: ram');
    await thenItWorks(STREAM);
  });
});

describe.skipIf(whyNoQemu())(titled('a destination QEMU that is killed'), () => {
  const kill = (destination: DestinationGuest) =>
    process.kill(identityOf(destination).pid, 'SIGKILL');

  function deathOf(destination: DestinationGuest): Promise<Error> {
    return new Promise((resolve) => destination.onDeath(resolve));
  }

  test.each(CASES)('while it starts, $qemu $placement', async (of) => {
    const start = bringTo(site.definition(of), `q35-${of.qemu}`).then(
      () => 'it started before it was killed',
      (error: Error) => error.name,
    );
    await until(() => site.processes().length > 0, 'it is there');
    for (const pid of site.processes()) process.kill(pid, 'SIGKILL');
    expect(await start).toBe('GodwitError');
    site.expectNothingLeft(of);
  });

  test.each(CASES)('before a round, $qemu $placement', async (of) => {
    const courier = await bringTo(site.definition(of), `q35-${of.qemu}`);
    const { destination } = courier;
    const death = deathOf(destination);
    kill(destination);
    expect(await death).toMatchObject({
      code: 'guest-died',
      message: 'QEMU of guest vm1 died: it is gone and has not said why',
    });
    expect(await refusal(courier.endRound(), 'guest-died')).toContain('lost its migration stream');
    await refusal(destination.loadDeviceState(spoolOf(courier.state)), 'guest-died');
    await destination.destroy();
    site.expectNothingLeft(of);
  });

  test.each(CASES)('while it takes the device state, $qemu $placement', async (of) => {
    const courier = await bringTo(site.definition(of), `q35-${of.qemu}`);
    const { destination } = courier;
    await halt(identityOf(destination).pid);
    const loading = refusal(courier.finish(), 'guest-died');
    kill(destination);
    expect(await loading).toContain('it is gone and has not said why');
    await destination.destroy();
    site.expectNothingLeft(of);
  });

  test.each(CASES)('when it is prepared, $qemu $placement', async (of) => {
    const courier = await bringTo(site.definition(of), `q35-${of.qemu}`);
    const { destination } = courier;
    await courier.finish();
    const death = deathOf(destination);
    kill(destination);
    expect(await death).toMatchObject({ code: 'guest-died' });
    await refusal(destination.resume(), 'guest-died');
    await destination.destroy();
    await destination.destroy();
    site.expectNothingLeft(of);
  });

  test('while the agent is away leaves nothing', async () => {
    const courier = await bringTo(site.definition(DIRECT), 'q35-10.0');
    const { destination } = courier;
    await courier.finish();
    destination.close();
    kill(destination);
    await until(() => !isAlive(identityOf(destination)), 'it is gone');
    expect(await attachQemu(destination.handle)).toBe('gone');
    site.expectNothingLeft(DIRECT);
  });

  test('by us rejects what it was asked', async () => {
    const courier = await bringTo(site.definition(STREAM), 'q35-10.0');
    const { destination } = courier;
    await halt(identityOf(destination).pid);
    const memory = new GuestMemory(destination.memory, 'read-write');
    const round = new PageSet(courier.pfnEnd);
    for (let pfn = 0; pfn < 2048; pfn++) {
      memory.write(pfn, 1, Buffer.alloc(PAGE, 1), 0); // more than a socket holds
      round.add(pfn);
    }
    memory.close();
    const asked = [
      refusal(destination.pagesArrived!(round), 'cancelled'),
      refusal(destination.loadDeviceState(spoolOf(courier.state)), 'cancelled'),
    ];
    await destination.destroy();
    await Promise.all(asked);
    await refusal(destination.loadDeviceState(spoolOf(courier.state)), 'cancelled');
    site.expectNothingLeft(STREAM);
  });
});

describe.skipIf(whyNoQemu())(titled('a destination is refused'), () => {
  let description: GuestDescription;

  beforeEach(async () => {
    description = await describeRecorded('q35-10.0');
  });

  /** Tries, and finds nothing changed. */
  async function refused(definition: GuestDefinition, code: string): Promise<string> {
    const files = fs.readdirSync(site.memoryDir);
    const message = await refusal(site.startDestination(definition, description), code);
    expect(fs.readdirSync(site.memoryDir)).toEqual(files);
    return message;
  }

  test('for more memory than its definition allows', async () => {
    const over = site.definition(DIRECT, { limits: { memory: 8 * MIB } });
    expect(await refused(over, 'memory-insufficient')).toMatch(
      /^guest vm1 has 8\.\d MiB of memory, .*vm1.json allows 8 MiB \("limits.memory"\)$/,
    );
    expect(site.processes()).toEqual([]);
  });

  test('for a RAM file of a block that the guest does not have', async () => {
    const ram = [{ block: 'pc.ram', file: site.ramFile }];
    expect(await refused(site.definition(DIRECT, { ram }), 'definition-invalid')).toMatch(
      /vm1.json: "ram" has a file for RAM block "pc.ram", but the guest has ram, /,
    );
  });

  test('for memory that is not shared', async () => {
    const definition = site.definition({ ...DIRECT, backend: 'share=off' });
    expect(await refused(definition, 'definition-invalid')).toContain('must have share=on');
    expect(site.processes()).toEqual([]);
  });

  test('for memory that is not in the RAM file', async () => {
    const ram = [{ block: 'ram', file: `${site.ramFile}2` }];
    const elsewhere = site.definition(DIRECT, { ram });
    expect(
      await refusal(site.startDestination(elsewhere, description), 'definition-invalid'),
    ).toContain(`has its memory in ${site.ramFile}, not in ${site.ramFile}2`);
    const command = site
      .command(DIRECT)
      .map((argument) =>
        argument.startsWith('memory-backend-file')
          ? 'memory-backend-ram,id=ram,size=8M,share=on'
          : argument,
      );
    fs.rmSync(site.ramFile); // of the first attempt: QEMU's own, no RAM file of ours
    const anonymous = { ...site.definition(DIRECT), command };
    expect(await refused(anonymous, 'definition-invalid')).toContain('has its memory in no file');
    expect(site.processes()).toEqual([]);
  });

  test('for a monitor with no room for another name beside it', async () => {
    const qmp = `/${'x'.repeat(105)}`;
    expect(await refused(site.definition(DIRECT, { qmp }), 'definition-invalid')).toContain(
      'too long',
    );
  });

  test('for a staging directory that is not there', async () => {
    const { log: logFile, dir } = site;
    const known = async () => {};
    const options = { crew, definition: site.definition(DIRECT), description, logFile, known };
    const start = startQemuDestination({ ...options, stagingDir: `${dir}/none` });
    expect(await refusal(start, 'ram-file-failed')).toContain('ENOENT');
    expect(site.processes()).toEqual([]);
  });

  test('for more than can be staged', async () => {
    description = describeBlocks([['ram', 2 ** 43]]);
    expect(await refused(site.definition(STREAM), 'memory-insufficient')).toMatch(
      /^8 TiB of the guest's memory have to be staged, but .* has room for /,
    );
  });

  test('for a description that is not one of a QEMU guest', async () => {
    const good = description;
    const attempts: [Partial<GuestDescription>, RegExp][] = [
      [{ hypervisor: 'simulated' }, /hypervisor simulated/],
      [{ deviceModel: 'qemu-stream-3' }, /its device model is not one/],
      [{ regions: good.regions.slice(1) }, /regions are not the RAM blocks/],
    ];
    for (const [part, why] of attempts) {
      description = { ...good, ...part };
      expect(await refused(site.definition(DIRECT), 'bad-message')).toMatch(why);
    }
  });

  test('where no QEMU waits', async () => {
    const definition = site.withoutCommand(DIRECT);
    const message = await refused(definition, 'hypervisor-failed');
    expect(message).toMatch(/^no QEMU waits for guest vm1, .*"command".*is QEMU running\?$/);
    const running = await site.start(site.command(DIRECT));
    expect(await refused(definition, 'guest-exists')).toContain('is here already');
    expect(isAlive(running)).toBe(true);
    const qmp = await QmpClient.connect(site.qmp);
    expect(await qmp.execute('query-status')).toMatchObject({ status: 'running' });
    qmp.close();
  });

  test('where a guest waits on a RAM file that is not fresh, or not its own', async () => {
    const waiting = await site.start(site.command(DIRECT), '-incoming', 'defer', '-S');
    const definition = site.withoutCommand(DIRECT);
    fs.renameSync(site.ramFile, `${site.ramFile}.away`);
    fs.writeFileSync(site.ramFile, '');
    expect(await refused(definition, 'definition-invalid')).toContain('has 0 bytes');
    fs.truncateSync(site.ramFile, 8 * MIB);
    expect(await refused(definition, 'definition-invalid')).toContain('it was replaced');
    fs.renameSync(`${site.ramFile}.away`, site.ramFile);
    fs.writeFileSync(site.ramFile, 'x', { flag: 'r+' });
    expect(await refused(definition, 'definition-invalid')).toContain('holds data already');
    expect(isAlive(waiting)).toBe(true);
  });
});
