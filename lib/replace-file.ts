import { open, rename } from 'node:fs/promises';
import path from 'node:path';

/** Durable when it resolves; when it rejects, a reader finds the old content or the new one, whole. */
export async function replaceFile(file: string, text: string): Promise<void> {
  const next = `${file}.new`;
  const handle = await open(next, 'w', 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(next, file);
  const dir = await open(path.dirname(file), 'r');
  try {
    await dir.sync();
  } finally {
    await dir.close();
  }
}
