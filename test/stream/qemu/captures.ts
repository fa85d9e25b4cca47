import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';

const DIRECTORY = join(import.meta.dirname, 'captures');
const ENDING = '.bin.zst';

/** Real streams, recorded by capture.ts: those to be taken, and those to be refused. */
export const CAPTURES = names().filter((name) => !name.startsWith('refused-'));
export const REFUSED_CAPTURES = names().filter((name) => name.startsWith('refused-'));

export function capture(name: string): Buffer {
  return zstdDecompressSync(readFileSync(join(DIRECTORY, name + ENDING)));
}

function names(): string[] {
  return readdirSync(DIRECTORY)
    .filter((file) => file.endsWith(ENDING))
    .map((file) => file.slice(0, -ENDING.length))
    .sort();
}
