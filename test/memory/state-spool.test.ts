import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { SpoolEnd, StateSpool } from '../../lib/memory/state-spool.ts';

test('others read what is written, and nothing of it has a name', () => {
  const dir = fs.mkdtempSync('/dev/shm/godwit-spool-');
  const spool = StateSpool.open(dir, 1);
  expect(fs.readdirSync(dir)).toEqual([]);
  const [writer, reader] = [new SpoolEnd(spool.share), new SpoolEnd(spool.share)];
  writer.write(5, Buffer.from('state'));
  const read = Buffer.alloc(5);
  reader.read(5, read);
  expect(read.toString()).toBe('state');
  expect(() => reader.read(6, read)).toThrow(expect.objectContaining({ code: 'ram-file-failed' }));
  spool.close();
  spool.close();
  writer.close();
  reader.close();
  fs.rmSync(dir, { recursive: true });
});

test('where none can be made is said', () => {
  const nowhere = path.join(os.tmpdir(), 'godwit-is-not-there');
  expect(() => StateSpool.open(nowhere, 1)).toThrow(
    expect.objectContaining({ code: 'ram-file-failed' }),
  );
});
