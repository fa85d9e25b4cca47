import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { GodwitError } from '../../../lib/errors.ts';
import { LineSplitter } from '../../../lib/guest/line-splitter.ts';
import { QmpClient, type QmpEvent, type QmpOptions } from '../../../lib/guest/qemu/qmp.ts';
import { answers } from '../../../lib/guest/simulated/socket-claim.ts';
import { halt } from '../../halt.ts';
import { ASKED_ON_STDIO, hasStarted } from '../../qemu/guest/started.ts';

/** Where .ci/qemu puts them. */
const QEMU = (version: string) => `/opt/godwit-qemu/${version}/qemu-system-x86_64`;

let dir: string;
let path: string;
const clients: QmpClient[] = [];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'godwit-qmp-'));
  path = join(dir, 'qmp.sock');
});

afterEach(() => {
  for (const client of clients.splice(0)) client.close();
  rmSync(dir, { recursive: true });
});

async function connected(options: QmpOptions = {}): Promise<QmpClient> {
  const client = await QmpClient.connect(path, options);
  clients.push(client);
  return client;
}

async function refusal(promise: Promise<unknown>, code = 'hypervisor-failed'): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (thrown: GodwitError) => thrown,
  );
  expect(error).toMatchObject({ name: 'GodwitError', code });
  expect(error!.message).not.toContain('\n');
  return error!.message;
}

describe.each(['10.0', '7.2'])('with QEMU %s', (version) => {
  describe.skipIf(!existsSync(QEMU(version)))('that runs', () => {
    let qemu: ChildProcess;
    let exit: Promise<unknown>;

    beforeEach(async () => {
      const qmp = `unix:${path},server=on,wait=off`;
      const args = ['-S', '-machine', 'none', '-display', 'none', '-nodefaults', '-qmp', qmp];
      const stdio = ['pipe', 'pipe', 'inherit'] as const;
      qemu = spawn(QEMU(version), [...args, ...ASKED_ON_STDIO], { stdio: [...stdio] });
      exit = once(qemu, 'exit');
      await hasStarted(qemu);
    });

    afterEach(async () => {
      qemu.kill('SIGKILL');
      await exit;
    });

    test('commands are executed, each with its own answer', async () => {
      const client = await connected();
      expect(client.version).toMatch(new RegExp(`^${version}\\.\\d+$`));
      const given = Promise.all([
        client.execute('query-status'),
        client.execute('query-name'),
        client.execute('query-status'),
      ]);
      const status = expect.objectContaining({ status: 'prelaunch', running: false });
      expect(await given).toEqual([status, {}, status]);
    });

    test('an answer of many buffers arrives whole', async () => {
      const client = await connected();
      const schema = await client.execute<object[]>('query-qmp-schema');
      expect(schema.length).toBeGreaterThan(500);
    });

    test("QEMU's own words come with the command's name", async () => {
      const client = await connected();
      expect(await refusal(client.execute('fly'))).toBe(
        'QEMU refused fly: The command fly has not been found',
      );
      const wrong = client.execute('migrate-set-parameters', { 'downtime-limit': 'soon' });
      expect(await refusal(wrong)).toMatch(
        /^QEMU refused migrate-set-parameters: .*downtime-limit/,
      );
      expect(await client.execute('query-name')).toEqual({});
    });

    test('events are told to those who listen, with the time', async () => {
      const client = await connected();
      const seen: QmpEvent[] = [];
      client.on('RESUME', (event) => seen.push(event));
      const stop = client.on('STOP', (event) => seen.push(event));
      await client.execute('cont');
      await client.execute('stop');
      await client.execute('cont');
      stop();
      await client.execute('stop');
      expect(seen.map(({ event }) => event)).toEqual(['RESUME', 'STOP', 'RESUME']);
      for (const { timestamp } of seen) {
        expect(Math.abs(timestamp.seconds - Date.now() / 1000)).toBeLessThan(3600);
        expect(timestamp.microseconds).toBeLessThan(1e6);
      }
    });

    test('a second client is told that another one may hold the monitor', async () => {
      const first = await connected();
      const message = await refusal(connected({ greetingLimitMs: 200 }), 'not-seen');
      expect(message).toBe(
        `QMP socket ${path} sent no greeting within 200 ms: another client may hold the monitor`,
      );
      const second = connected();
      first.close();
      expect(await (await second).execute('query-name')).toEqual({});
    });

    test('clients that left without waiting do not disturb the next', async () => {
      for (let round = 0; round < 30; round++) {
        await answers(path);
        const client = await connected();
        client.execute('query-qmp-schema').catch(() => {});
        await new Promise(setImmediate);
        client.close();
      }
      expect(await (await connected()).execute('query-name')).toEqual({});
    });

    test('one that finds the queue of clients full is told so', async () => {
      await connected();
      const limit = { greetingLimitMs: 300 };
      const outcomes = await Promise.all(
        Array.from({ length: 8 }, () => refusal(connected(limit), 'not-seen')),
      );
      expect(outcomes.some((text) => text.includes('is busy: another client holds'))).toBe(true);
    });

    test('a QEMU that dies is noticed once, and rejects what is pending', async () => {
      const client = await connected();
      const deaths: GodwitError[] = [];
      client.onClose((error) => deaths.push(error));
      await halt(qemu.pid!);
      const pending = [client.execute('query-name'), client.execute('query-status')];
      qemu.kill('SIGKILL');
      const gone = `QEMU is gone: it closed its QMP socket ${path}`;
      const words = await Promise.all(pending.map((promise) => refusal(promise, 'guest-died')));
      expect(words).toEqual([gone, gone]);
      expect(deaths).toMatchObject([{ code: 'guest-died', message: gone }]);
      expect(await refusal(client.execute('query-name'), 'guest-died')).toBe(gone);
      const late = Promise.withResolvers<GodwitError>();
      client.onClose(late.resolve);
      expect(await late.promise).toBe(deaths[0]);
      client.close();
      expect(deaths).toHaveLength(1);
    });

    test('a QEMU that is told to quit is no surprise', async () => {
      const client = await connected();
      let deaths = 0;
      client.onClose(() => deaths++);
      await client.executeLast('quit').catch(() => {}); // it may be gone before it can answer
      await exit;
      await refusal(client.execute('query-name'), 'guest-died');
      expect(deaths).toBe(0);
    });

    test('a QEMU that stands still runs into the limit of each command', async () => {
      const client = await connected({ commandLimitMs: 1_000 });
      await halt(qemu.pid!);
      expect(await refusal(client.execute('query-name'), 'not-seen')).toBe(
        `QMP socket ${path} did not answer query-name within 1.00 s`,
      );
      qemu.kill('SIGCONT');
      // Its late answer comes first, and is not taken for that of the next command.
      for (let answered = false; !answered; ) {
        const answer = await client.execute('query-status').catch(() => undefined);
        answered = answer !== undefined;
        if (answered) expect(answer).toMatchObject({ running: false });
      }
    });
  });
});

describe('without a QEMU', () => {
  test('a socket that is not there, or that nobody listens on', async () => {
    expect(await refusal(connected())).toBe(`QMP socket ${path} does not exist: is QEMU running?`);
    writeFileSync(path, '');
    expect(await refusal(connected())).toBe(
      `QMP socket ${path} has nobody listening: QEMU is not running`,
    );
    path = join(dir, 'x'.repeat(200));
    expect(await refusal(connected())).toContain(`QMP socket ${path} cannot be opened: `);
  });
});

describe('with what is no QEMU', () => {
  const GREETING = '{"QMP": {"version": {"qemu": {"micro": 1, "minor": 2, "major": 3}}}}\r\n';
  let server: Server;
  let peer: Socket;
  let heard: { execute: string; arguments: unknown; id: string }[];

  /** Greets and answers qmp_capabilities; the rest is up to the test. */
  async function speak(greeting: string): Promise<void> {
    heard = [];
    server = createServer((socket) => {
      peer = socket;
      peer.on('error', () => {});
      peer.write(greeting);
      const splitter = new LineSplitter();
      peer.on('data', (data: Buffer) => {
        for (const line of splitter.push(data)) {
          heard.push(JSON.parse(line));
          const { execute, id } = heard.at(-1)!;
          if (execute === 'qmp_capabilities') say({ return: {}, id });
        }
      });
    });
    server.listen(path);
    await once(server, 'listening');
  }

  const say = (...messages: object[]) =>
    peer.write(messages.map((message) => `${JSON.stringify(message)}\r\n`).join(''));

  /** The ids of so many commands after the first. */
  async function ids(count: number): Promise<string[]> {
    while (heard.length <= count) await sleep(1);
    return heard.slice(1).map(({ id }) => id);
  }

  afterEach(() => {
    peer?.destroy();
    server.close();
  });

  test.each([
    ['}{\n', 'speaks no QMP: "}{"'],
    ['SSH-2.0-OpenSSH_9.2\r\n', 'speaks no QMP: "SSH-2.0-OpenSSH_9.2\\r"'],
    ['[]\n', 'speaks no QMP: "[]"'],
    ['null\n', 'speaks no QMP: "null"'],
    ['\n', 'speaks no QMP: ""'],
    ['{}\n', 'speaks no QMP: "{}"'],
    ['{"event": "STOP"}\n', 'speaks no QMP: '],
    ['{"QMP": null}\n', 'did not greet as QEMU does: '],
    ['{"QMP": {"version": {"qemu": null}}}\n', 'did not greet as QEMU does: '],
    ['{"QMP": {"version": {"qemu": {"major": 9}}}}\n', 'did not greet as QEMU does: '],
    [
      `{"QMP": "${'x'.repeat(500)}"}\n`,
      `did not greet as QEMU does: "{\\"QMP\\":\\"${'x'.repeat(72)}"`,
    ],
    ['x'.repeat(2000), 'speaks no QMP: a line is longer than 1000 bytes'],
  ])('as a greeting, case %#', async (greeting, why) => {
    await speak(greeting);
    const message = await refusal(connected({ maxLineBytes: 1000 }));
    expect(message.startsWith(`QMP socket ${path} ${why}`)).toBe(true);
  });

  test('a server that closes at once', async () => {
    server = createServer((socket) => socket.destroy());
    server.listen(path);
    await once(server, 'listening');
    expect(await refusal(connected())).toContain('was closed before QEMU had greeted');
  });

  test('a greeting in pieces is one', async () => {
    await speak(GREETING.slice(0, 20));
    const client = connected();
    while (peer === undefined || peer.destroyed) await sleep(1);
    for (const byte of GREETING.slice(20)) {
      peer.write(byte);
      await new Promise(setImmediate);
    }
    expect((await client).version).toBe('3.2.1');
  });

  test.each([
    ['}{\n', 'speaks no QMP: "}{"'],
    ['{}\n', 'speaks no QMP: "{}"'],
    ['{"event": "STOP"}\n', 'speaks no QMP: '],
    ['{"event": 1, "timestamp": {}}\n', 'speaks no QMP: '],
    ['x'.repeat(2000), 'speaks no QMP: a line is longer than 1000 bytes'],
  ])('in a session, case %#', async (text, why) => {
    await speak(GREETING);
    const client = await connected({ maxLineBytes: 1000 });
    const closed = Promise.withResolvers<GodwitError>();
    client.onClose(closed.resolve);
    const pending = client.execute('query-status');
    peer.write(text);
    const message = await refusal(pending);
    expect(message.startsWith(`QMP socket ${path} ${why}`)).toBe(true);
    expect(await closed.promise).toMatchObject({ message });
    expect(await refusal(client.execute('query-status'))).toBe(message);
  });

  test('errors without a description still say something', async () => {
    await speak(GREETING);
    const client = await connected();
    const pending = [client.execute('one'), client.execute('two')];
    const [one, two] = await ids(2);
    say({ error: null, id: two }, { error: { class: 'X' }, id: one });
    expect(await Promise.all(pending.map((promise) => refusal(promise)))).toEqual([
      'QEMU refused one: {"class":"X"}',
      'QEMU refused two: null',
    ]);
  });

  test('what was meant for an earlier client is dropped', async () => {
    const stop = { event: 'STOP', timestamp: { seconds: 1, microseconds: 2 } };
    const leftOver = [{ return: 'old', id: 1 }, { error: {} }, { return: 'old' }, stop];
    await speak(leftOver.map((message) => `${JSON.stringify(message)}\n`).join('') + GREETING);
    const [client, other] = [await connected(), await connected()];
    const pending = other.execute('query-status');
    const id = (await ids(2)).at(-1)!;
    expect(heard[0]!.id).not.toBe(id);
    say(...leftOver, { return: 'old', id: heard[0]!.id }, JSON.parse(GREETING));
    say({ return: 'new', id });
    expect(await pending).toBe('new');
    client.close();
  });

  test('what was closed here is over, and no death', async () => {
    await speak(GREETING);
    const client = await connected();
    let deaths = 0;
    client.onClose(() => deaths++);
    const pending = client.execute('query-status');
    client.close();
    client.close();
    expect(await refusal(pending)).toBe(`QMP socket ${path} was closed by this agent`);
    client.onClose(() => deaths++);
    await once(peer, 'close');
    expect(deaths).toBe(0);
  });

  test('commands are lines of JSON with an id of their own', async () => {
    await speak(GREETING);
    const client = await connected();
    client.execute('migrate', { uri: 'unix:/a "b"\n' }).catch(() => {});
    await ids(1);
    expect(heard).toMatchObject([
      { execute: 'qmp_capabilities', arguments: {} },
      { execute: 'migrate', arguments: { uri: 'unix:/a "b"\n' } },
    ]);
    expect(heard[0]!.id).not.toBe(heard[1]!.id);
  });
});
