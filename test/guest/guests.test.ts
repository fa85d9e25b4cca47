import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { DestinationGuest, GuestCopy, GuestDescription } from '../../lib/guest/guest.ts';
import { Guests, requireTerms } from '../../lib/guest/guests.ts';
import { identify } from '../../lib/guest/process-identity.ts';
import { crewOfTest } from '../crew/crew-of-test.ts';
import { halt } from '../halt.ts';
import { titled, whyNoQemu } from '../qemu/guest/installed.ts';
import { FakeLibvirtd } from './libvirt/fake-libvirtd.ts';
import { Puppet } from './qemu/puppet.ts';
import { GuestDir, until } from './simulated/fixture.ts';

const crew = crewOfTest();

let here: GuestDir;
let there: GuestDir;
let definitions: string;
let guests: Guests;
const copies: GuestCopy[] = [];

beforeEach(() => {
  here = new GuestDir();
  there = new GuestDir();
  definitions = path.join(here.dir, 'definitions');
  fs.mkdirSync(definitions, { mode: 0o700 });
  guests = guestsOf(here);
});

afterEach(() => {
  for (const copy of copies.splice(0)) copy.close();
  here.dispose();
  there.dispose();
});

function guestsOf({ dir }: GuestDir): Guests {
  const stateDir = path.join(dir, 'state');
  return new Guests({ guestDir: dir, definitions, ramDir: '/dev/shm', stateDir }, crew);
}

function define(name: string, qmp: string): void {
  const text = JSON.stringify({ hypervisor: 'qemu', qmp });
  fs.writeFileSync(path.join(definitions, `${name}.json`), text, { mode: 0o600 });
}

describe('the guests of a host', () => {
  test('are listed in whatever state they are, except those that are not to be asked', async () => {
    await here.boot('one');
    const two = await here.boot('two');
    await two.client.execute('fail', { as: 'guest-panicked' });
    const about = { hypervisor: 'simulated', memoryBytes: 16 << 20, deviceStateBytes: 65_536 };
    expect(await guests.list()).toEqual([
      { name: 'one', state: 'running', ...about },
      { name: 'two', state: 'panicked', ...about },
    ]);
    expect(await guests.list(new Set(['one']))).toMatchObject([{ name: 'two' }]);
    const found = await guests.find('one');
    expect(await found.look()).toMatchObject({ state: 'running' });
    await expect(guests.find('three')).rejects.toMatchObject({ code: 'unknown-guest' });
  });

  test('what only a domain of libvirt can be is refused for any other', () => {
    const guest = { name: 'vm', hypervisor: 'simulated' };
    const terms = { destXml: '<domain/>', destName: 'a', persistent: true, undefineSource: true };
    for (const [name, value] of Object.entries(terms)) {
      const words = `--${name.replace(/[A-Z]/, (letter) => `-${letter.toLowerCase()}`)} is for domains of libvirt`;
      expect(() => requireTerms(guest, { [name]: value })).toThrow(words);
      expect(() => requireTerms({ ...guest, hypervisor: 'libvirt' }, terms)).not.toThrow();
    }
    expect(() => requireTerms(guest, { persistent: false })).not.toThrow();
  });

  test('of one name: the definition is meant, and the list says so', async () => {
    await here.boot('vm');
    define('vm', '/nowhere/qmp');
    expect(await guests.list()).toEqual([
      { name: 'vm', hypervisor: 'qemu', trouble: expect.stringContaining('does not exist') },
      {
        ...{ name: 'vm', hypervisor: 'simulated' },
        trouble: 'not reachable: a qemu guest has the same name',
      },
    ]);
    const found = await guests.find('vm');
    await expect(found.openSource()).rejects.toMatchObject({ code: 'hypervisor-failed' });
  });

  test('that are domains of libvirt are listed, once, with a definition or without', async () => {
    const libvirtd = new FakeLibvirtd();
    await libvirtd.listen();
    libvirtd.answerDomains({ vm: [1, 1], other: [3, 5], off: [5, 0], 'no name!': [1, 1] });
    const places = { guestDir: here.dir, definitions, ramDir: '/dev/shm', stateDir: here.dir };
    const both = new Guests({ ...places, libvirtSocket: libvirtd.path }, crew);
    define('vm', '/nowhere/qmp');
    const listed = await both.list();
    expect(listed).toHaveLength(3);
    expect(listed).toMatchObject([
      { name: 'vm', hypervisor: 'qemu' },
      { name: 'other', hypervisor: 'libvirt', state: 'io-error', memoryBytes: 1 << 30 },
      { name: 'no name!', trouble: expect.stringContaining('its name') },
    ]);
    const unreachable = new Guests({ ...places, libvirtSocket: '/nowhere/sock' }, crew);
    expect(await unreachable.list()).toMatchObject([
      { name: 'vm' },
      { hypervisor: 'libvirt', trouble: 'cannot connect to libvirtd at /nowhere/sock: ENOENT' },
    ]);
    libvirtd.end();
  });

  test('are listed though one stands still, which is not seen', async () => {
    await here.boot('one');
    const two = await here.boot('two');
    await halt(two.vmm.pid);
    expect(await guests.list()).toMatchObject([
      { name: 'one', state: 'running' },
      { name: 'two', trouble: expect.stringContaining('sent no greeting within 3.00 s') },
    ]);
    await expect(guests.find('two')).rejects.toMatchObject({ code: 'not-seen' });
  });

  test.skipIf(whyNoQemu())(titled('are listed though a QEMU stands still'), async () => {
    const puppet = await Puppet.start('10.0');
    try {
      define('vm', puppet.monitor);
      expect(await guests.list()).toMatchObject([{ name: 'vm', state: 'running' }]);
      await halt((await puppet.qmp.process()).pid);
      expect(await guests.list()).toMatchObject([
        { name: 'vm', trouble: expect.stringContaining('sent no greeting within 3.00 s') },
      ]);
      const found = await guests.find('vm');
      await expect(found.look()).rejects.toMatchObject({ code: 'not-seen' });
      await expect(found.openSource()).rejects.toMatchObject({ code: 'not-seen' });
    } finally {
      await puppet.end();
    }
  });
});

describe('a guest that arrives', () => {
  let description: GuestDescription;
  let handles: string[];
  beforeEach(async () => {
    await here.boot('vm');
    const source = await (await guests.find('vm')).openSource();
    ({ description } = source);
    source.close();
    handles = [];
  });

  async function arrive(): Promise<DestinationGuest> {
    const known = async (handle: string) => {
      if (handles.length === 0) expect(fs.readdirSync(there.dir)).not.toContain('vm.sock');
      handles.push(handle);
    };
    const copy = await guestsOf(there).arrive(description, known);
    there.track(JSON.parse(copy.handle).pid);
    copies.push(copy);
    return copy;
  }

  test('is found by either of its handles, by agents with other directories', async () => {
    const copy = await arrive();
    expect(handles).toHaveLength(2);
    expect(handles[1]).toBe(copy.handle);
    for (const handle of handles) {
      const found = await guests.attach('simulated', handle);
      if (found === 'gone') throw new Error('it is here');
      expect(await found.state()).toBe('incoming');
      expect(found.handle).toBe(copy.handle);
      found.close();
    }
  });

  test('is gone when its process has ended, and nothing is left of it', async () => {
    const copy = await arrive();
    const { pid } = JSON.parse(copy.handle);
    process.kill(pid, 'SIGKILL');
    await until(() => identify(pid) === undefined);
    for (const handle of [...handles].reverse())
      expect(await guests.attach('simulated', handle)).toBe('gone');
    expect(fs.existsSync(copy.memory[0]!.path)).toBe(false);
    expect(fs.existsSync(path.join(there.dir, 'vm.sock'))).toBe(false);
  });

  test('is not seen while its process stands still, and can be ended all the same', async () => {
    const copy = await arrive();
    const { pid } = JSON.parse(copy.handle);
    await halt(pid);
    for (const handle of handles)
      await expect(guests.attach('simulated', handle)).rejects.toMatchObject({ code: 'not-seen' });
    await copy.destroy();
    expect(identify(pid)).toBeUndefined();
    expect(await guests.attach('simulated', copy.handle)).toBe('gone');
  });

  test('is not taken for another one that has come to its place', async () => {
    const copy = await arrive();
    await copy.destroy();
    await there.boot('vm');
    expect(await guests.attach('simulated', copy.handle)).toBe('gone');
    // What was only about to be made cannot be told from nothing while another serves its socket.
    await expect(guests.attach('simulated', handles[0]!)).rejects.toMatchObject({
      code: 'not-seen',
    });
  });

  test('does not when nobody may know of it', async () => {
    const refused = async () => {
      throw new Error('the disk is full');
    };
    await expect(guestsOf(there).arrive(description, refused)).rejects.toThrow('the disk is full');
    let calls = 0;
    const second = async () => {
      if (++calls === 2) throw new Error('the disk is full');
    };
    await expect(guestsOf(there).arrive(description, second)).rejects.toThrow('the disk is full');
    expect(fs.readdirSync(there.dir).filter((name) => name !== 'state')).toEqual([]);
  });

  test('of a hypervisor that this host has not is refused', async () => {
    const known = async () => {};
    const xen = { ...description, hypervisor: 'xen' };
    await expect(guests.arrive(xen, known)).rejects.toMatchObject({ code: 'hypervisor-failed' });
    for (const handle of ['', '17', '{}'])
      await expect(guests.attach('simulated', handle)).rejects.toMatchObject({
        code: 'journal-invalid',
      });
  });
});
