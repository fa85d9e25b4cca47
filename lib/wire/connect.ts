import { connect } from 'node:net';
import { GodwitError } from '../errors.ts';
import { Channel, type ChannelOptions } from './channel.ts';
import { type Address, connectError } from './socket-errors.ts';

/**
 * A channel to a peer that listens.
 * @throws GodwitError connect-refused, connect-timeout, host-unknown, peer-closed, connect-failed
 */
export function connectChannel(
  to: Address & { readonly timeoutMs: number },
  options: ChannelOptions,
): Promise<Channel> {
  const { promise, resolve, reject } = Promise.withResolvers<Channel>();
  const socket = connect({ host: to.host, port: to.port });
  const fail = (error: GodwitError) => {
    clearTimeout(timer);
    socket.destroy();
    reject(error);
  };
  const onError = (error: Error) => fail(connectError(error, to));
  const timer = setTimeout(() => {
    const text = `${to.host} port ${to.port} did not answer within ${to.timeoutMs} ms`;
    fail(new GodwitError('connect-timeout', text));
  }, to.timeoutMs);
  socket.once('error', onError);
  socket.once('connect', () => {
    clearTimeout(timer);
    socket.off('error', onError);
    resolve(new Channel(socket, options));
  });
  return promise;
}
