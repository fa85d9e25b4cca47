import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LineSplitter } from '../../../lib/guest/line-splitter.ts';
import { ControlClient } from '../../../lib/guest/simulated/control-client.ts';
import { until } from './fixture.ts';

describe('lines', () => {
  test('are put together whatever the chunks', () => {
    const text = Buffer.from('one\n\nthree é\nrest');
    for (let size = 1; size <= text.length; size++) {
      const splitter = new LineSplitter();
      const lines: string[] = [];
      for (let at = 0; at < text.length; at += size)
        lines.push(...splitter.push(text.subarray(at, at + size)));
      expect(lines).toEqual(['one', '', 'three é']);
    }
  });

  test('are bounded, the newline not counted', () => {
    expect(new LineSplitter(4).push(Buffer.from('1234\n1234\n'))).toHaveLength(2);
    expect(() => new LineSplitter(4).push(Buffer.from('12345'))).toThrow(/longer than 4/);
    const splitter = new LineSplitter(4);
    splitter.push(Buffer.from('123'));
    expect(() => splitter.push(Buffer.from('45\n'))).toThrow(/longer than 4/);
  });
});

describe('a client of a server that misbehaves', () => {
  const GREETING = '{"VMM":{"version":"1"}}\n';
  let dir: string;
  let path: string;
  let server: Server;
  let peer: Socket;
  /** Ids of the commands that it has heard. */
  let ids: string[];

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'godwit-control-'));
    path = join(dir, 'x.sock');
    ids = [];
  });

  afterEach(() => {
    peer?.destroy();
    server.close();
    rmSync(dir, { recursive: true });
  });

  async function connected(greeting = GREETING): Promise<ControlClient> {
    server = createServer((socket) => {
      peer = socket;
      peer.on('error', () => {});
      peer.write(greeting);
      const splitter = new LineSplitter();
      peer.on('data', (data: Buffer) => {
        for (const line of splitter.push(data)) ids.push(JSON.parse(line).id);
      });
    });
    server.listen(path);
    await once(server, 'listening');
    return ControlClient.connect(path, 'x', { greetingMs: 300, commandMs: 300 });
  }

  const say = (...messages: object[]) =>
    peer.write(messages.map((message) => `${JSON.stringify(message)}\n`).join(''));

  async function heard(count: number): Promise<string[]> {
    await until(() => ids.length >= count);
    return ids;
  }

  test('drops answers that nobody waits for, and hands out events', async () => {
    const client = await connected();
    const events: unknown[] = [];
    client.on('STOP', ({ data }) => events.push(data));
    const answer = client.execute('one');
    const [id] = await heard(1);
    const stop = { event: 'STOP', data: 7, timestamp: {} };
    say(stop, { event: 'SHUTDOWN', timestamp: {} }, { return: 5, id: 99 }, { return: 6, id });
    expect(await answer).toBe(6);
    expect(events).toEqual([7]);
  });

  test('matches answers to requests by their ids', async () => {
    const client = await connected();
    const answers = Promise.all([client.execute('one'), client.execute('two')]);
    const [one, two] = await heard(2);
    say({ return: 'second', id: two }, { return: 'first', id: one });
    expect(await answers).toEqual(['first', 'second']);
  });

  test('rejects what is pending when the connection ends, and tells once', async () => {
    const client = await connected();
    const deaths: unknown[] = [];
    client.onClose((error) => deaths.push(error));
    const pending = [client.execute('one'), client.execute('two')];
    await heard(2);
    peer.destroy();
    const gone = `the VMM of guest x is gone: it closed its control socket ${path}`;
    for (const outcome of await Promise.allSettled(pending))
      expect(outcome).toMatchObject({ reason: { code: 'guest-died', message: gone } });
    expect(deaths).toMatchObject([{ code: 'guest-died', message: gone }]);
    await expect(client.execute('three')).rejects.toMatchObject({ code: 'guest-died' });
  });

  test('takes garbage for the end of the connection', async () => {
    const client = await connected();
    const pending = client.execute('one');
    await heard(1);
    peer.write('}{\n');
    await expect(pending).rejects.toMatchObject({
      ...{ code: 'hypervisor-failed', message: expect.stringContaining('speaks no control') },
    });
  });

  test('gives the words of an error', async () => {
    const client = await connected();
    const pending = client.execute('one');
    const [id] = await heard(1);
    say({ error: { class: 'device-state-invalid', desc: 'no good' }, id });
    await expect(pending).rejects.toMatchObject({
      ...{ code: 'device-state-invalid', message: 'guest x: no good' },
    });
  });

  test('does not wait for ever for a greeting or an answer', async () => {
    await expect(connected('')).rejects.toMatchObject({
      ...{ code: 'not-seen', message: `control socket ${path} sent no greeting within 300 ms` },
    });
    const client = await connectedAgain();
    const late = client.execute('one');
    await expect(late).rejects.toMatchObject({
      ...{ code: 'not-seen', message: `control socket ${path} did not answer one within 300 ms` },
    });
    const next = client.execute('two');
    const [one, two] = await heard(2);
    say({ return: 'late', id: one }, { return: 'in time', id: two });
    expect(await next).toBe('in time');
  });

  async function connectedAgain(): Promise<ControlClient> {
    const closed = once(server, 'close');
    server.close();
    peer.destroy();
    await closed;
    return connected();
  }
});
