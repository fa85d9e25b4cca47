import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ControlClient } from '../../../lib/guest/simulated/control-client.ts';
import { LineSplitter } from '../../../lib/guest/simulated/line-splitter.ts';

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
  let dir: string;
  let server: Server;
  let peer: Socket;
  let client: ControlClient;

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'godwit-control-'));
    const path = join(dir, 'x.sock');
    server = createServer();
    await new Promise<void>((resolve) => server.listen(path, resolve));
    const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
    client = await ControlClient.connect(path, 'x');
    peer = await accepted;
    peer.on('error', () => {});
  });

  afterEach(() => {
    client.close();
    peer.destroy();
    server.close();
    rmSync(dir, { recursive: true });
  });

  test('drops events and answers that nobody waits for', async () => {
    const answer = client.execute('one');
    peer.write('{"VMM":{}}\n{"event":"STOP"}\n{"return":5,"id":99}\n{"return":6,"id":1}\n');
    expect(await answer).toBe(6);
  });

  test('matches answers to requests by their ids', async () => {
    const answers = Promise.all([client.execute('one'), client.execute('two')]);
    peer.write('{"return":"second","id":2}\n{"return":"first","id":1}\n');
    expect(await answers).toEqual(['first', 'second']);
  });

  test('rejects what is pending when the connection ends, and tells once', async () => {
    let deaths = 0;
    client.onClose(() => deaths++);
    const pending = [client.execute('one'), client.execute('two')];
    peer.destroy();
    for (const outcome of await Promise.allSettled(pending))
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'guest-died' } });
    expect(deaths).toBe(1);
    await expect(client.execute('three')).rejects.toMatchObject({ code: 'guest-died' });
  });

  test('takes garbage for the end of the connection', async () => {
    const pending = client.execute('one');
    peer.write('}{\n');
    await expect(pending).rejects.toMatchObject({ code: 'guest-died' });
  });

  test('gives the words of an error', async () => {
    const pending = client.execute('one');
    peer.write('{"error":{"class":"device-state-invalid","desc":"no good"},"id":1}\n');
    await expect(pending).rejects.toMatchObject({
      ...{ code: 'device-state-invalid', message: 'guest x: no good' },
    });
  });
});
