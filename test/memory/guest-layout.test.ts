import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { GuestLayout, PAGE_SIZE } from '../../lib/memory/guest-layout.ts';
import { GuestMemory } from '../../lib/memory/guest-memory.ts';

const region = (name: string, firstPfn: number, pages: number) => ({ name, firstPfn, pages });

describe('a layout', () => {
  test.each([
    ['no region', []],
    ['a region without a name', [region('', 0, 1)]],
    ['a name twice', [region('a', 0, 1), region('a', 256, 1)]],
    ['a start within a chunk', [region('a', 17, 1)]],
    ['overlapping regions', [region('a', 0, 300), region('b', 256, 1)]],
    ['regions out of order', [region('b', 512, 1), region('a', 0, 1)]],
    ['an empty region', [region('a', 0, 0)]],
    ['more than 16 TiB', [region('a', 0, 2 ** 32)]],
  ])('is refused with %s', (_, regions) => {
    expect(() => new GuestLayout(regions)).toThrow(
      expect.objectContaining({ code: 'bad-message' }),
    );
  });

  test('knows its pages, its gaps and its last chunk', () => {
    const layout = new GuestLayout([region('a', 0, 300), region('b', 768, 1)]);
    expect(layout).toMatchObject({ totalPages: 301, pfnEnd: 769, chunks: 4 });
    expect([0, 299, 768].every((pfn) => layout.has(pfn))).toBe(true);
    expect([300, 512, 767, 769].some((pfn) => layout.has(pfn))).toBe(false);
    expect(layout.regionOfChunk(2)).toBeUndefined();
    expect(layout.regionOfChunk(3)?.name).toBe('b');
  });
});

describe('guest memory in files', () => {
  let dir: string;
  let file: string;
  beforeAll(() => {
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-memory-'));
    file = path.join(dir, 'ram');
  });
  afterAll(() => fs.rmSync(dir, { recursive: true }));

  test('reads and writes by pfn, region by region', () => {
    fs.writeFileSync(file, Buffer.alloc(12 * PAGE_SIZE));
    const memory = new GuestMemory(
      [
        { region: region('a', 0, 8), path: file, offset: 0 },
        { region: region('b', 256, 4), path: file, offset: 8 * PAGE_SIZE },
      ],
      'read-write',
    );
    memory.write(257, 2, Buffer.alloc(3 * PAGE_SIZE, 9), PAGE_SIZE);
    const back = Buffer.alloc(4 * PAGE_SIZE);
    memory.read(256, 4, back, 0);
    expect([0, 1, 2, 3].map((i) => back[i * PAGE_SIZE])).toEqual([0, 9, 9, 0]);
    expect(fs.readFileSync(file)[9 * PAGE_SIZE]).toBe(9);
    for (const [pfn, pages] of [
      [8, 1],
      [7, 2],
      [255, 1],
      [259, 2],
    ] as const)
      expect(() => memory.read(pfn, pages, back, 0)).toThrow(
        expect.objectContaining({ code: 'pfn-out-of-range' }),
      );
    memory.close();
  });

  test('says which file is missing or too short', () => {
    const at = (name: string, pages: number) => () =>
      new GuestMemory(
        [{ region: region('a', 0, pages), path: path.join(dir, name), offset: 0 }],
        'read',
      );
    expect(at('none', 1)).toThrow(expect.objectContaining({ code: 'ram-file-failed' }));
    expect(at('none', 1)).toThrow(/none: ENOENT/);
    fs.writeFileSync(path.join(dir, 'short'), 'x');
    expect(at('short', 1)).toThrow(/short has 1 bytes, region a needs 4096/);
  });
});
