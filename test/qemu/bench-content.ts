import fs from 'node:fs';
import { ContentGenerator } from '../../lib/guest/simulated/content.ts';
import { DEFAULT_MIX } from '../../lib/guest/simulated/content-mix.ts';
import { CHUNK_SIZE, PAGE_SIZE } from '../../lib/memory/guest-layout.ts';

const SEED = 1;

/** What a guest of so many bytes has in its memory, the same every time, MiB by MiB. */
export function* memoryContent(bytes: number): Generator<Buffer> {
  const content = new ContentGenerator(DEFAULT_MIX, SEED, bytes / PAGE_SIZE);
  const chunk = Buffer.alloc(CHUNK_SIZE);
  for (let at = 0; at < bytes; at += CHUNK_SIZE) {
    chunk.fill(0);
    for (let page = 0; page < CHUNK_SIZE; page += PAGE_SIZE)
      content.fillAtBoot(chunk, page, (at + page) / PAGE_SIZE);
    yield chunk;
  }
}

/** Zeros are written too: a guest has touched its memory, and a hole would cost whoever reads first. */
export function writeContent(file: string, bytes: number): void {
  const fd = fs.openSync(file, 'wx', 0o600);
  try {
    for (const chunk of memoryContent(bytes)) fs.writeSync(fd, chunk);
  } finally {
    fs.closeSync(fd);
  }
}

/** Without holes, as it was written. */
export function copyContent(from: string, to: string): void {
  const [source, copy] = [fs.openSync(from, 'r'), fs.openSync(to, 'wx', 0o600)];
  try {
    const chunk = Buffer.allocUnsafeSlow(CHUNK_SIZE);
    while (fs.readSync(source, chunk) > 0) fs.writeSync(copy, chunk);
  } finally {
    fs.closeSync(source);
    fs.closeSync(copy);
  }
}
