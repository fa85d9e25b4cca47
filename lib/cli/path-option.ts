import path from 'node:path';
import { GodwitError } from '../errors.ts';
import type { Input } from './cli.ts';

/** Bytes of a path: of any (limits.h), and of a Unix socket's (unix(7)), both without their NUL. */
const MAX_PATH = 4095;
export const MAX_SOCKET_PATH = 107;

/**
 * Absolute: what is kept of it must be found from wherever the agent is started the next time.
 * @throws GodwitError bad-option
 */
export function pathOf(input: Input, name: string, otherwise: string, max = MAX_PATH): string {
  const text = input.option(name) ?? otherwise;
  const absolute = path.resolve(text);
  if (text !== '' && !text.includes('\0') && Buffer.byteLength(absolute) <= max) return absolute;
  const shown = JSON.stringify(text.slice(0, 80));
  throw new GodwitError('bad-option', `--${name} is a path of 1 to ${max} bytes, not ${shown}`);
}
