import fs from 'node:fs';
import path from 'node:path';
import type { Field } from './definition-fields.ts';

/** A RAM block's name travels behind a length of one byte. */
const MAX_BLOCK_NAME = 255;

/** A RAM block with its file as the operator wrote it, and with the directories resolved. */
export interface RamEntry {
  readonly block: string;
  readonly written: string;
  readonly resolved: string;
}

/** Each block and each file once, every file within the directories. */
export function readRam(ram: Field, ramDirs: readonly string[]): RamEntry[] {
  const entries: RamEntry[] = [];
  for (const item of ram.present ? ram.items() : []) {
    const { block, file } = item.members('block', 'file');
    const entry = {
      block: block.text(),
      written: file.absolutePath(),
      resolved: resolveWithin(file, ramDirs),
    };
    if (Buffer.byteLength(entry.block) > MAX_BLOCK_NAME)
      throw block.refusal(`is longer than the ${MAX_BLOCK_NAME} bytes of a RAM block's name`);
    if (entries.some((other) => other.block === entry.block))
      throw block.refusal(`stands twice: a RAM block is in one file`);
    if (entries.some((other) => other.resolved === entry.resolved))
      throw file.refusal(`stands twice: a file holds one RAM block`);
    entries.push(entry);
  }
  return entries;
}

/** A file that may be yet to be made; no link may lead it out of the directories. */
function resolveWithin(field: Field, dirs: readonly string[]): string {
  const file = field.absolutePath();
  const parent = realPath(path.dirname(file));
  if (parent === undefined) throw field.refusal(`lies in no directory that exists: ${file}`);
  const resolved = path.join(parent, path.basename(file));
  const real = dirs.map(realPath).filter((dir) => dir !== undefined);
  if (path.dirname(resolved) !== parent || !real.some((dir) => isWithin(parent, dir)))
    throw field.refusal(`must lie within ${dirs.join(' or ')}, not at ${file}`);
  if (fs.lstatSync(resolved, { throwIfNoEntry: false })?.isFile() === false)
    throw field.refusal(`is there already, but as something else than a file: ${file}`);
  return resolved;
}

/** As QEMU will find it: the plain `realpathSync` takes `..` out before it looks at links. */
function realPath(file: string): string | undefined {
  try {
    return fs.realpathSync.native(file);
  } catch {
    return undefined;
  }
}

function isWithin(inner: string, outer: string): boolean {
  return inner === outer || inner.startsWith(outer === '/' ? outer : `${outer}/`);
}
