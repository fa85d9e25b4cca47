import { readdir } from 'node:fs/promises';
import { GodwitError } from '../../errors.ts';
import { ControlClient, type ControlLimits } from './control-client.ts';
import { socketPath } from './socket-claim.ts';

/** Names of the guests with a control socket in a directory, sorted; some may be dead. */
export async function guestNames(dir: string): Promise<string[]> {
  const files = await readdir(dir).catch(() => []);
  return files
    .filter((file) => file.endsWith('.sock'))
    .map((file) => file.slice(0, -'.sock'.length))
    .sort();
}

/** @throws GodwitError unknown-guest, naming the guests there are; not-seen when its VMM says nothing */
export async function connectGuest(
  dir: string,
  name: string,
  limits: ControlLimits = {},
): Promise<ControlClient> {
  try {
    return await ControlClient.connect(socketPath(dir, name), name, limits);
  } catch (cause) {
    if ((cause as GodwitError).code === 'not-seen') throw cause;
    const names = await guestNames(dir);
    const known = names.length === 0 ? `there is none in ${dir}` : `there are ${names.join(', ')}`;
    throw new GodwitError('unknown-guest', `no simulated guest "${name}"; ${known}`, { cause });
  }
}
