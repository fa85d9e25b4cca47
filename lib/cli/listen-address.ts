import { GodwitError } from '../errors.ts';
import { parseCount } from '../units.ts';

/** `HOST:PORT` or `[IPV6]:PORT`, where to listen; port 0 is any free one. @throws GodwitError bad-option */
export function parseListen(text: string, option: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(text);
  if (!match) throw new GodwitError('bad-option', `${option} is HOST:PORT, not "${text}"`);
  return {
    host: match[1] ?? match[2]!,
    port: parseCount(match[3]!, option, { min: 0, max: 65535 }),
  };
}
