import type { AddressInfo, ListenOptions, Server } from 'node:net';
import { GodwitError } from '../errors.ts';
import { log } from '../log.ts';

/**
 * Lets a server of TCP connections listen; `where` is for the error. Resolves to the address it
 * has: a socket that was inherited has one of its own.
 * @throws GodwitError listen-failed
 */
export async function listenOn(
  server: Server,
  options: ListenOptions & { fd?: number },
  where: string,
): Promise<AddressInfo> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const refused = (cause: NodeJS.ErrnoException) => {
    reject(new GodwitError('listen-failed', `cannot listen on ${where}: ${cause.code}`, { cause }));
  };
  server.once('error', refused);
  server.listen(options, resolve);
  await promise;
  server.off('error', refused);
  // A connection that cannot be accepted is no reason to end.
  server.on('error', (error) => log('error', `${where}: ${error.message}`));
  const address = server.address();
  if (address !== null && typeof address === 'object') return address;
  server.close();
  throw new GodwitError('listen-failed', `cannot listen on ${where}: it is not a TCP socket`);
}
