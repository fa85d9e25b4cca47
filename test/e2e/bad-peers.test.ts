import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import zlib from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { ControlClient } from '../../lib/guest/simulated/control-client.ts';
import { GuestLayout } from '../../lib/memory/guest-layout.ts';
import { HashTable } from '../../lib/pages/hash-table.ts';
import { encodeBody } from '../../lib/wire/codec.ts';
import { frameHead } from '../../lib/wire/frame.ts';
import { helloMessage, PROTOCOL_VERSION } from '../../lib/wire/handshake.ts';
import { kindOf } from '../../lib/wire/kinds.ts';
import { sendTerms } from '../../lib/wire/terms.ts';
import { FakeSender, fakeReceiver, hash, PAGES } from './fake-peers.ts';
import { Hosts, until } from './hosts.ts';

const ZERO_HASH = hash.of(Buffer.alloc(4096));

/** Migrations here must end on their own long before this. */
const QUICK = ['--peer-timeout', '3s', '--reconnect-timeout', '3s'];

describe('what a sender meets', () => {
  let hosts: Hosts;
  beforeAll(async () => {
    hosts = await Hosts.start({ send: [...QUICK, '--connect-timeout', '3s'] });
    await hosts.boot({ workload: 'hot-set', rate: 500 });
  });
  afterEach(async () => {
    hosts.mustLive();
    await hosts.mustRunAt('source');
  });
  afterAll(async () => {
    // After all of them a good migration still works.
    expect(await hosts.migrate('--max-suspend-time', '20s')).toMatchObject({ exit: 0 });
    await hosts.end();
  });

  const failure = async (target: string, ...options: string[]) => {
    const result = await hosts.run(['migrate', 'vm1', target, ...options, '--json']);
    const text = (result.stderr || result.stdout).trim().split('\n').at(-1)!;
    const view = JSON.parse(text);
    return {
      exit: result.code,
      code: view.code ?? view.error.code,
      message: view.message ?? view.error.message,
    };
  };

  test('an unknown guest', async () => {
    const { code, stderr } = await hosts.run(['migrate', 'nobody', hosts.target]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/no guest "nobody" on this host; there are vm1 \(unknown-guest\)/);
  });

  test('a port where nobody listens', async () => {
    expect(await failure('127.0.0.1:1')).toMatchObject({ exit: 1, code: 'connect-refused' });
  });

  test('a name that does not resolve', async () => {
    expect(await failure('no-such-host.invalid')).toMatchObject({ exit: 1, code: 'host-unknown' });
  });

  test('a receiver that says nothing', async () => {
    const fake = await fakeReceiver(() => {});
    expect(await failure(fake.target)).toMatchObject({ exit: 1, code: 'peer-silent' });
    fake.close();
  });

  test('a receiver that closes at once', async () => {
    const fake = await fakeReceiver((socket) => socket.end());
    expect(await failure(fake.target)).toMatchObject({ exit: 1, code: 'peer-closed' });
    fake.close();
  });

  test('a receiver that talks nonsense', async () => {
    const fake = await fakeReceiver((socket) =>
      socket.write('HTTP/1.1 400 Bad Request\r\n\r\n padding'),
    );
    expect(await failure(fake.target)).toMatchObject({ exit: 1, code: 'bad-magic' });
    fake.close();
  });

  test('a receiver of another protocol version', async () => {
    const header = Buffer.alloc(32);
    header.write('GDWT');
    header[4] = 9;
    header[5] = 2;
    const fake = await fakeReceiver((socket) => socket.write(header));
    expect(await failure(fake.target)).toMatchObject({ exit: 1, code: 'bad-version' });
    fake.close();
  });

  test('a cancel in precopy, by either side', async () => {
    for (const side of ['send', 'recv'] as const) {
      const id = await hosts.begin('--bandwidth', '1MB/s', '--no-compression');
      await until(async () => (await hosts.view(id)).round === 1, 'the first round runs');
      await hosts.run(['cancel', id], side);
      expect(await hosts.ended(id)).toMatchObject({ outcome: 'cancelled', code: 'cancelled' });
      await hosts.mustBeGoneFrom('destination');
    }
  });

  test('a guest that is being migrated already', async () => {
    const id = await hosts.begin('--bandwidth', '1MB/s', '--no-compression');
    expect(await failure(hosts.target)).toMatchObject({ exit: 1, code: 'guest-busy' });
    await hosts.run(['cancel', id]);
    await hosts.ended(id);
  });

  test('a receiver that is stopped in the middle, and its return', async () => {
    const id = await hosts.begin('--bandwidth', '1MB/s', '--no-compression');
    await until(async () => (await hosts.view(id)).round === 1, 'the first round runs');
    hosts.recv.process.kill('SIGSTOP');
    const view = await hosts.ended(id);
    hosts.recv.process.kill('SIGCONT');
    expect(view).toMatchObject({ outcome: 'failed', code: 'reconnect-timeout' });
    await hosts.mustBeGoneFrom('destination');
  });

  test('a receiver that is killed in the middle', async () => {
    const id = await hosts.begin('--bandwidth', '1MB/s', '--no-compression');
    await until(async () => (await hosts.view(id)).round === 1, 'the first round runs');
    await hosts.recv.end('SIGKILL');
    expect(await hosts.ended(id)).toMatchObject({ outcome: 'failed', code: 'reconnect-timeout' });
    await hosts.startRecv();
    await hosts.mustBeGoneFrom('destination');
  });

  test('a destination hypervisor that dies in the middle', async () => {
    const id = await hosts.begin('--bandwidth', '1MB/s', '--no-compression');
    await until(async () => (await hosts.view(id)).round === 1, 'the first round runs');
    await hosts.quitGuest('destination');
    expect(await hosts.ended(id)).toMatchObject({ outcome: 'failed', code: 'guest-died' });
    await hosts.mustBeGoneFrom('destination');
  });
});

describe('a receiver that is waited for', () => {
  const PATIENT = ['--peer-timeout', '300s', '--connect-timeout', '300s'];
  test.each(['cancel', 'SIGTERM'])('is not, after a %s', async (how) => {
    const fake = await fakeReceiver(() => {});
    const hosts = await Hosts.start({ send: PATIENT });
    await hosts.boot();
    const begun = await hosts.run(['migrate', 'vm1', fake.target, '--detach']);
    const id = begun.stdout.trim();
    if (how === 'cancel') {
      await hosts.run(['cancel', id]);
      expect(await hosts.ended(id)).toMatchObject({ outcome: 'cancelled', code: 'cancelled' });
    } else {
      expect(await hosts.send.end()).toBe(0);
    }
    await hosts.mustRunAt('source');
    fake.close();
    await hosts.end();
  });
});

test('SIGTERM of agent-send in the middle leaves the guest running', async () => {
  const hosts = await Hosts.start();
  await hosts.boot({ workload: 'hot-set', rate: 500 });
  const id = await hosts.begin('--bandwidth', '1MB/s', '--no-compression');
  await until(async () => (await hosts.view(id)).round === 1, 'the first round runs');
  expect(await hosts.send.end()).toBe(0);
  await hosts.mustRunAt('source');
  await hosts.mustBeGoneFrom('destination');
  await hosts.startSend();
  expect(await hosts.migrate('--max-suspend-time', '20s')).toMatchObject({ exit: 0 });
  await hosts.end();
});

test('a source hypervisor that dies in the middle', async () => {
  const hosts = await Hosts.start();
  await hosts.boot();
  const id = await hosts.begin('--bandwidth', '1MB/s', '--no-compression');
  await until(async () => (await hosts.view(id)).round === 1, 'the first round runs');
  await hosts.quitGuest('source');
  expect(await hosts.ended(id)).toMatchObject({ outcome: 'failed', code: 'guest-died' });
  await hosts.mustBeGoneFrom('destination');
  const shown = JSON.parse((await hosts.run(['show', id, '--json'], 'recv')).stdout);
  expect(shown).toMatchObject({
    outcome: 'failed',
    code: 'guest-died',
    message: expect.stringMatching(/^the source reports: /),
  });
  hosts.mustLive();
  await hosts.end();
});

test('a guest that does not run is not moved', async () => {
  const hosts = await Hosts.start();
  await hosts.boot();
  const guest = await ControlClient.connect(path.join(hosts.sourceDir, 'vm1.sock'), 'vm1');
  await guest.execute('fail', { as: 'guest-panicked' });
  const { code, stderr } = await hosts.run(['migrate', 'vm1', hosts.target]);
  expect(code).toBe(1);
  expect(stderr).toMatch(
    /guest vm1 has panicked; only a guest that runs or is paused can be moved/,
  );
  await guest.execute('cont');
  guest.close();
  expect(await hosts.migrate('--max-suspend-time', '20s')).toMatchObject({ exit: 0 });
  await hosts.end();
});

test('a guest name that the destination has already', async () => {
  const hosts = await Hosts.start();
  await hosts.boot();
  expect(await hosts.migrate('--max-suspend-time', '20s')).toMatchObject({ exit: 0 });
  await hosts.boot();
  expect(await hosts.migrate()).toMatchObject({ exit: 1, code: 'guest-exists' });
  await hosts.mustRunAt('source');
  await hosts.mustRunAt('destination');
  await hosts.end();
});

describe('a host without room', () => {
  test('a RAM directory that does not exist', async () => {
    const hosts = await Hosts.start({ recv: ['--ram-dir', '/nonexistent/ram'] });
    await hosts.boot();
    expect(await hosts.migrate()).toMatchObject({ exit: 1, code: 'ram-file-failed' });
    await hosts.mustRunAt('source');
    hosts.mustLive();
    await hosts.end();
  });

  test.skipIf(process.getuid?.() !== 0)('too little memory, and memory that runs out', async () => {
    const ram = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-small-'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=80m', 'tmpfs', ram]);
    try {
      const hosts = await Hosts.start({ ramDir: ram });
      await hosts.boot({ memory: '128MiB' });
      expect(await hosts.migrate()).toMatchObject({ exit: 1, code: 'memory-insufficient' });
      await hosts.boot({ name: 'vm2', memory: '64MiB', content: 'random=100' });
      const begun = ['migrate', 'vm2', hosts.target, '--detach', '--bandwidth', '2MB/s'];
      const id = (await hosts.run(begun)).stdout.trim();
      await until(async () => (await hosts.view(id)).round === 1, 'the first round runs');
      // Somebody else takes the rest.
      const takeRest = () => fs.writeFileSync(path.join(ram, 'hog'), Buffer.alloc(80 << 20));
      expect(takeRest).toThrow(/ENOSPC/);
      const view = await hosts.ended(id);
      fs.rmSync(path.join(ram, 'hog'));
      expect(view).toMatchObject({ outcome: 'failed', code: 'ram-file-failed' });
      expect(view.message).toContain('no memory left');
      await hosts.mustRunAt('source', 'vm2');
      await hosts.mustBeGoneFrom('destination', 'vm2');
      hosts.mustLive();
      await hosts.end();
    } finally {
      execFileSync('umount', [ram]);
      fs.rmdirSync(ram);
    }
  });
});

describe('what a receiver meets', () => {
  let hosts: Hosts;
  let sender: FakeSender;
  const page = randomBytes(4096);
  beforeAll(async () => {
    hosts = await Hosts.start({ recv: QUICK });
    await hosts.boot();
  });
  afterEach(async () => {
    sender?.close();
    hosts.mustLive();
    await hosts.mustBeGoneFrom('destination', 'fake');
  });
  afterAll(async () => {
    expect(await hosts.migrate('--max-suspend-time', '20s')).toMatchObject({ exit: 0 });
    await hosts.end();
  });

  const opened = async () => {
    sender = new FakeSender();
    await sender.open(hosts.port);
    sender.beginRound();
    return sender;
  };

  test('garbage, half a frame, and silence', async () => {
    for (const bytes of [randomBytes(5000), Buffer.from('GDWT'), Buffer.alloc(0)]) {
      const socket = net.connect(hosts.port, '127.0.0.1');
      socket.on('error', () => {});
      const closed = new Promise((resolve) => socket.on('close', resolve));
      socket.resume();
      socket.write(bytes);
      await closed;
    }
  });

  test('an oversized length', async () => {
    const header = Buffer.alloc(32);
    header.write('GDWT');
    header[4] = 1;
    header[5] = 1;
    header.writeUInt32LE(0xffffffff, 8);
    const socket = net.connect(hosts.port, '127.0.0.1');
    socket.on('error', () => {}); // what it did not read makes its end a reset
    const closed = new Promise((resolve) => socket.on('close', resolve));
    socket.resume();
    socket.write(header);
    await closed;
    await until(() => hosts.recv.log.includes('Hello'), 'the log names it');
  });

  const sayHello = async (sequence: number, versions: [number, number]) => {
    const hello = helloMessage(sendTerms(1));
    const [minVersion, maxVersion] = versions;
    const body = encodeBody('Hello', { ...hello, minVersion, maxVersion });
    const socket = net.connect(hosts.port, '127.0.0.1');
    socket.on('error', () => {}); // what it did not read makes its end a reset
    const closed = new Promise((resolve) => socket.on('close', resolve));
    socket.resume();
    socket.write(frameHead(kindOf('Hello'), sequence, body, 0));
    await closed;
  };

  test('a frame out of order', async () => {
    await sayHello(5, [1, 1]);
    await until(() => hosts.recv.log.includes('numbered a Hello frame'), 'the log names it');
  });

  test('a sender of another protocol version', async () => {
    await sayHello(0, [7, 9]);
    await until(
      () =>
        hosts.recv.log.includes(
          `the sender speaks versions 7 to 9, the receiver version ${PROTOCOL_VERSION}`,
        ),
      'the log names both',
    );
  });

  test('a page that is not what its hash says', async () => {
    (await opened()).batch(page, {}, randomBytes(4096));
    expect(await sender.refusal).toBe('page-hash-mismatch');
  });

  test('a pfn that the guest does not have', async () => {
    (await opened()).batch(page, { chunk: 7 });
    expect(await sender.refusal).toBe('pfn-out-of-range');
  });

  test('a decompression bomb', async () => {
    const bomb = zlib.zstdCompressSync(Buffer.alloc(512 << 20));
    (await opened()).batch(page, { rawCompressed: true }, bomb);
    expect(await sender.refusal).toBe('decompress-failed');
  });

  test('a batch whose parts do not fit together', async () => {
    (await opened()).batch(page, { rawLength: 12 });
    expect(await sender.refusal).toBe('bad-message');
  });

  test('a list of pages that never come', async () => {
    (await opened()).batch(page);
    sender.control.send('RoundEnd', { round: 1, cutShort: false });
    expect(await sender.refusal).toBe('round-incomplete');
  });

  test('a round out of order', async () => {
    (await opened()).control.send('RoundBegin', { round: 2, stopAndCopy: true, dirtyPages: 1 });
    expect(await sender.refusal).toBe('bad-message');
  });

  /** Everything of a guest that is all zeros, in the last round. */
  async function lastRound(): Promise<void> {
    await opened();
    const zeros = Array.from({ length: 256 }, () => 0);
    const zeroHash = Buffer.alloc(8);
    zeroHash.writeBigUInt64LE(ZERO_HASH);
    const all = {
      offsetDelta: zeros.map((_, i) => Math.min(i, 1)),
      encodings: Uint8Array.from(zeros),
      hashes: Buffer.concat(zeros.map(() => zeroHash)),
      rawLength: 0,
    };
    sender.control.send('RoundEnd', { round: 1, cutShort: true });
    sender.control.send('Suspend', { limitMs: 0, runState: 'running' });
    sender.control.send('RoundBegin', { round: 2, stopAndCopy: true, dirtyPages: PAGES });
    sender.control.send('DirtyList', { round: 2, firstPfn: 0, gapRun: [0, PAGES] });
    for (const chunk of [0, 1]) sender.batch(page, { ...all, chunk, round: 2 }, Buffer.alloc(0));
    await until(async () => {
      const { stdout } = await hosts.run(['show', sender.id, '--json'], 'recv');
      return JSON.parse(stdout).pagesSent === PAGES;
    }, 'all pages arrived');
    sender.control.send('RoundEnd', { round: 2, cutShort: false });
  }

  test('a digest of other memory', async () => {
    await lastRound();
    sender.control.send('DeviceState', { bytes: 8, lane: [1n] });
    sender.control.send('Digest', { lane: [1n] });
    expect(await sender.refusal).toBe('digest-mismatch');
  });

  test('a device state on lanes that are not there', async () => {
    await lastRound();
    const layout = new GuestLayout([{ name: 'ram', firstPfn: 0, pages: PAGES }]);
    const table = new HashTable(layout, 0, 1);
    for (let pfn = 0; pfn < PAGES; pfn++) table.set(pfn, ZERO_HASH);
    sender.control.send('DeviceState', { bytes: 8, lane: [0n, 0n] });
    sender.control.send('Digest', { lane: [table.digest(hash)] });
    expect(await sender.refusal).toBe('device-state-invalid');
  });

  test('a sender that leaves', async () => {
    (await opened()).close();
  });
});
