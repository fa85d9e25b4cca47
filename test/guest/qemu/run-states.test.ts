import fs from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { GuestCopy, PushingGuest } from '../../../lib/guest/guest.ts';
import { handleOf, inThisBoot } from '../../../lib/guest/handle.ts';
import { LineSplitter } from '../../../lib/guest/line-splitter.ts';
import { identify } from '../../../lib/guest/process-identity.ts';
import { attachQemu, QemuCopy } from '../../../lib/guest/qemu/copy.ts';
import { QmpClient } from '../../../lib/guest/qemu/qmp.ts';
import { connectQemuSource } from '../../../lib/guest/qemu/source.ts';
import type { RunState } from '../../../lib/guest/run-state.ts';
import { ChunkRingReader, newRing } from '../../../lib/pages/chunk-ring.ts';
import { crewOfTest } from '../../crew/crew-of-test.ts';
import { until } from '../../e2e/hosts.ts';
import { halt } from '../../halt.ts';
import { type QemuVersion, titled, whyNoQemu } from '../../qemu/guest/installed.ts';
import { TEST_BOUND_MS } from '../../qemu/guest/linux-guest.ts';
import { spoolFor } from '../states.ts';
import { type Act, Puppet } from './puppet.ts';

const crew = crewOfTest();

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

const VERSIONS: readonly QemuVersion[] = ['10.0', '7.2'];
const ACTS: readonly [Act, RunState, string][] = [
  ['panic', 'panicked', 'guest-panicked'],
  ['shut-down', 'shut-down', 'shutdown'],
  ['read', 'io-error', 'io-error'],
];

/** In which QEMU leaves a guest that stood, when its migration is undone. */
function left(version: QemuVersion): string[] {
  return version === '7.2' ? ['postmigrate'] : [];
}

/** The pages go nowhere. */
async function push(source: PushingGuest): Promise<void> {
  const ring = newRing(4, 0n);
  const reader = new ChunkRingReader(ring);
  void (async () => {
    for (let taken = 1; ; taken++) {
      await reader.take();
      reader.free(taken);
    }
  })();
  await spoolFor(source);
  await source.startPushing([ring]);
}

/**
 * It gets no further than a chunk: QEMU stands in its first pass with a full socket. Version 7.2 would
 * end the passes of a guest that dirties nothing by itself, maybe before the guest does what it is told.
 */
async function pushInVain(source: PushingGuest): Promise<void> {
  await spoolFor(source);
  await source.startPushing([newRing(1, 0n)]);
}

describe.skipIf(whyNoQemu())(titled('a QEMU guest that stops for a reason of its own'), () => {
  let puppet: Puppet;
  const copies: GuestCopy[] = [];
  afterEach(async () => {
    for (const copy of copies.splice(0)) copy.close();
    await puppet.end();
  });

  async function source(): Promise<PushingGuest> {
    const copy = await connectQemuSource(puppet.definition, crew);
    copies.push(copy);
    return copy;
  }

  async function attached(handle: string): Promise<GuestCopy> {
    const copy = await attachQemu(handle);
    if (copy === 'gone') throw new Error('it is gone');
    copies.push(copy);
    return copy;
  }

  async function monitorIsFree(): Promise<void> {
    (await QmpClient.connect(puppet.monitor, { greetingLimitMs: TEST_BOUND_MS })).close();
  }

  describe.each(VERSIONS)('of %s', (version) => {
    beforeEach(async () => {
      puppet = await Puppet.start(version);
    });

    test.each(ACTS)('%s, in the middle: is told of and left as it is', async (act, state, word) => {
      const copy = await source();
      const stopped = new Promise<RunState>((resolve) => copy.onStopped(resolve));
      await pushInVain(copy);
      puppet.act(act);
      expect(await stopped).toBe(state);
      expect(await copy.suspend()).toBe(state);
      expect(await copy.resume()).toBe(state);
      expect([word, ...left(version)]).toContain(await puppet.status());
      await copy.stopPushing();
      await expect(source()).rejects.toThrow(); // its monitor is held
      copy.close();
      await until(
        async () => (await source().catch((error) => error)).code === 'guest-not-running',
        'it is refused by name',
      );
    });

    test('what the migration has stopped runs again, also when the agent dies', async () => {
      const sealed = await source();
      await push(sealed);
      expect(await sealed.suspend()).toBe('migrated');
      await sealed.pushedAll();
      await sealed.saveDeviceState();
      expect(await sealed.seal()).toHaveLength(0);
      expect(await puppet.status()).toBe('postmigrate');
      expect(await sealed.resume()).toBe('running');
      await sealed.stopPushing();
      sealed.close();
      await monitorIsFree();
      const copy = await source();
      await push(copy);
      expect(await copy.suspend()).toBe('migrated');
      copy.close();
      await until(async () => (await puppet.status()) === 'running', 'QEMU undoes it by itself');
    });

    test('a person pauses it in the middle: it stays paused', async () => {
      const copy = await source();
      const stopped = new Promise<RunState>((resolve) => copy.onStopped(resolve));
      await pushInVain(copy);
      await puppet.qmp.execute('stop');
      expect(await stopped).toBe('paused');
      expect(copy.arrives).toBe('paused');
      expect(await copy.resume()).toBe('paused');
      expect(['paused', ...left(version)]).toContain(await puppet.status());
    });

    test('it was paused before: it travels so, and stays so when it stays', async () => {
      await puppet.qmp.execute('stop');
      const copy = await source();
      expect(copy.arrives).toBe('paused');
      await push(copy);
      expect(await copy.suspend()).toBe('paused');
      await copy.pushedAll();
      await copy.saveDeviceState();
      expect(await copy.state()).toBe('paused');
      expect(await copy.resume()).toBe('paused');
      expect(await copy.state()).toBe('paused');
      const word = await puppet.status();
      expect(['paused', ...left(version)]).toContain(word);
      copy.close();
      const found = await attached(copy.handle);
      expect(await found.resume()).toBe(word === 'paused' ? 'paused' : 'migrated');
      expect(await puppet.status()).toBe(word);
    });

    test('a person pauses it while it is being suspended: whoever came first is known', async () => {
      for (let attempt = 0; attempt < 6; attempt++) {
        const copy = await source();
        await push(copy);
        const [state] = await Promise.all([copy.suspend(), puppet.qmp.execute('stop')]);
        await copy.pushedAll();
        const saved = await copy.saveDeviceState().then(
          () => 'saved',
          (error) => error.code,
        );
        const pausedFirst = state === 'paused' || saved === 'guest-stopped';
        expect(await copy.resume()).toBe(pausedFirst ? 'paused' : 'running');
        expect((await puppet.status()) === 'running').toBe(!pausedFirst);
        copy.close();
        await monitorIsFree();
        await puppet.qmp.execute('cont');
      }
    });

    test('a guest that runs into an error as soon as it runs has run', async () => {
      const qmp = await QmpClient.connect(puppet.monitor);
      const process = inThisBoot(await qmp.process());
      const place = { kind: 'qemu', guest: 'vm1', socket: puppet.monitor, ram: [], process };
      const copy = new QemuCopy(qmp, place);
      copies.push(copy);
      expect(await copy.suspend()).toBe('paused');
      puppet.act('read');
      expect(['running', 'io-error']).toContain(await copy.resume());
      await until(async () => (await copy.state()) === 'io-error', 'the guest meets the error');
      expect(await copy.resume()).toBe('io-error');
      expect(await puppet.status()).toBe('io-error');
    });

    test('its copy is ended though it stands still', async () => {
      const copy = await source();
      const { pid } = JSON.parse(copy.handle);
      await halt(pid);
      await copy.destroy();
      expect(identify(pid)).toBeUndefined();
      expect(await attachQemu(copy.handle)).toBe('gone');
    });
  });
});

describe.skipIf(whyNoQemu())(titled('a QEMU 7.2 that stops its guest by itself'), () => {
  test('does not wait for ever until that is taken up', async () => {
    const puppet = await Puppet.start('7.2');
    try {
      const copy = await connectQemuSource(puppet.definition, crew);
      const own = new Promise<void>((resolve) => copy.onOwnSuspension(resolve));
      const given = new Promise<Error>((resolve) => copy.onDeath(resolve));
      await push(copy);
      await own;
      expect(await copy.state()).toBe('migrated'); // QEMU is not asked: it might not answer
      expect(await given).toMatchObject({
        message: expect.stringContaining('was not taken up within 5.00 s'),
      });
      copy.close();
      await until(async () => (await puppet.status()) === 'running', 'the guest runs again');
    } finally {
      await puppet.end();
    }
  });
});

describe('a QEMU that is told to run its guest', () => {
  type Say = (message: object) => void;
  let dir: string;
  let server: Server;
  let peer: Socket | undefined;
  let copy: GuestCopy;

  /** What answers `cont`, and the state that is told from then on. */
  async function told(cont: (say: Say, id: string) => void, after = 'paused'): Promise<GuestCopy> {
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-fake-'));
    const socket = path.join(dir, 'qmp');
    let status = 'paused';
    server = createServer((connection) => {
      peer = connection;
      const say: Say = (message) => {
        if (connection.writable) connection.write(`${JSON.stringify(message)}\n`);
      };
      say({ QMP: { version: { qemu: { major: 10, minor: 0, micro: 0 } } } });
      const splitter = new LineSplitter();
      connection.on('data', (data: Buffer) => {
        for (const line of splitter.push(data)) {
          const { execute, id } = JSON.parse(line);
          if (execute === 'cont') {
            status = after;
            cont(say, id);
          } else say({ return: execute === 'query-status' ? { status } : {}, id });
        }
      });
    });
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    const qmp = await QmpClient.connect(socket, { commandLimitMs: 300 });
    const process = inThisBoot(identify(globalThis.process.pid)!);
    copy = new QemuCopy(qmp, { kind: 'qemu', guest: 'vm1', socket, ram: [], process });
    return copy;
  }

  afterEach(() => {
    copy.close();
    peer?.destroy();
    server.close();
    fs.rmSync(dir, { recursive: true });
  });

  const error = { class: 'GenericError', desc: 'the image is locked' };
  const resumed = { event: 'RESUME', timestamp: { seconds: 1, microseconds: 1 } };

  test('and refuses has not started it', async () => {
    const guest = await told((say, id) => say({ error, id }));
    await expect(guest.resume()).rejects.toMatchObject({
      ...{ code: 'not-started', message: 'QEMU refused cont: the image is locked' },
    });
  });

  test('and refuses, but has run it or looks otherwise, has perhaps started it', async () => {
    const seen = await told((say, id) => {
      say(resumed);
      say({ error, id });
    });
    await expect(seen.resume()).rejects.toMatchObject({ code: 'hypervisor-failed' });
  });

  test('and looks otherwise after it has refused has perhaps started it', async () => {
    const guest = await told((say, id) => say({ error, id }), 'io-error');
    await expect(guest.resume()).rejects.toMatchObject({ code: 'hypervisor-failed' });
  });

  test('and does not answer has perhaps started it', async () => {
    const guest = await told(() => {});
    await expect(guest.resume()).rejects.toMatchObject({ code: 'not-seen' });
  });

  test('and goes away when it has answered has started it', async () => {
    const guest = await told((say, id) => {
      say(resumed);
      say({ return: {}, id });
      peer!.end();
    });
    expect(await guest.resume()).toBe('running');
  });
});

test('a handle that was not made here is refused', async () => {
  for (const handle of [
    '',
    '17',
    '{}',
    '{"kind":"simulated","socket":"/x","ram":[]}',
    '{"kind":"qemu","socket":"/x","ram":[],"pid":1}',
  ])
    await expect(attachQemu(handle)).rejects.toMatchObject({ code: 'journal-invalid' });
});

test('a copy of an earlier boot of this host is gone', async () => {
  const process = { ...identify(globalThis.process.pid)!, bootId: 'another' };
  const place = { kind: 'qemu', guest: 'vm1', socket: '/nowhere/qmp', ram: [], process };
  expect(await attachQemu(handleOf(place))).toBe('gone');
});
