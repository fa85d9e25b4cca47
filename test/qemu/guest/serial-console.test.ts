import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs from 'node:fs';
import { connect, type Socket } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, test } from 'vitest';
import { SerialConsole } from './serial-console.ts';
import { verdict } from './witness.ts';

/** What a QEMU writes for its guest, in pieces that end wherever the guest was stopped. */
class Qemu {
  readonly #socket: Socket;

  static async start({ path }: SerialConsole): Promise<Qemu> {
    const socket = connect(path);
    await once(socket, 'connect');
    return new Qemu(socket);
  }

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  async says(console: SerialConsole, text: string, last: RegExp): Promise<void> {
    const heard = console.line(last);
    this.#socket.write(text);
    await heard;
  }

  end(): void {
    this.#socket.destroy();
  }
}

describe('the consoles of a guest that moves', () => {
  let dir: string;
  let source: SerialConsole;
  let destination: SerialConsole;

  beforeEach(async () => {
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-console-'));
    source = await SerialConsole.listen(path.join(dir, 'source'));
    destination = await SerialConsole.listen(path.join(dir, 'destination'), source);
  });
  afterEach(async () => {
    await source.close();
    await destination.close();
    fs.rmSync(dir, { recursive: true });
  });

  /** It is stopped inside a line, which its destination goes on with as `rest`. */
  async function moves(rest: string): Promise<void> {
    const left = await Qemu.start(source);
    const arrived = await Qemu.start(destination);
    await left.says(source, 'beat 1 20.000\r\nbeat 2 4', /^beat 1/);
    await arrived.says(destination, `${rest}beat 3 60.000\r\nbeat 4 8`, /^beat 3/);
    left.end();
    arrived.end();
  }

  test('a line that begins at its source ends at its destination, also after others have moved', async () => {
    for (let times = 1; times <= 3; times++) {
      await moves('0.000\r\n');
      const { bad, beats } = verdict(source, destination);
      assert.deepEqual(bad, []);
      assert.deepEqual(
        beats.map(({ number, guestMs }) => [number, guestMs]),
        [
          [1, 20],
          [2, 40],
          [3, 60],
        ],
      );
      for (const console of [source, destination]) await console.forget();
      assert.deepEqual([...source.lines, ...destination.lines], []);
    }
  });

  test('a beat that is lost or comes twice is found, also after others have moved', async () => {
    for (const [rest, found] of [
      ['0.000\r\n', []],
      ['?\r\n', ['beat 3 came after beat 1']], // the end of a line is lost
      ['0.000\r\nbeat 2 40.000\r\n', ['beat 2 came after beat 2']],
      ['0.000\r\nbeat 1 20.000\r\n', ['beat 1 came after beat 2', 'beat 3 came after beat 1']],
    ] as const) {
      await moves(rest);
      assert.deepEqual(verdict(source, destination).bad, found);
      for (const console of [source, destination]) await console.forget();
    }
  });
});
