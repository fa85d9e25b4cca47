import { BlockList, connect, isIP, type Socket } from 'node:net';
import { GodwitError } from '../errors.ts';
import { Channel, type ChannelOptions } from './channel.ts';
import type { Security } from './credentials.ts';
import { type Address, connectError } from './socket-errors.ts';
import { secureClient, tlsError } from './tls.ts';

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

export interface Target extends Address {
  readonly timeoutMs: number;
  readonly security: Security;
}

/**
 * A channel to a peer that listens, over TLS when there are credentials.
 * @throws GodwitError connect-refused, connect-timeout, host-unknown, peer-closed, connect-failed,
 *   tls-failed, tls-name-mismatch, and tls-required without credentials and off this host
 */
export function connectChannel(to: Target, options: ChannelOptions): Promise<Channel> {
  const { promise, resolve, reject } = Promise.withResolvers<Channel>();
  const { credentials, insecure } = to.security;
  const plain = connect({ host: to.host, port: to.port });
  const socket = credentials ? secureClient(plain, credentials, to.host) : plain;
  const fail = (error: GodwitError) => {
    clearTimeout(timer);
    socket.destroy();
    plain.destroy();
    reject(error);
  };
  const onError = (error: Error) => fail(tlsError(error, to.host) ?? connectError(error, to));
  const timer = setTimeout(() => {
    const text = `${to.host} port ${to.port} did not answer within ${to.timeoutMs} ms`;
    fail(new GodwitError('connect-timeout', text));
  }, to.timeoutMs);
  plain.on('error', onError);
  socket.on('error', onError);
  socket.once(credentials ? 'secureConnect' : 'connect', () => {
    clearTimeout(timer);
    if (!credentials && !insecure && !isLocal(plain))
      return fail(tlsRequired(`${to.host} is another host`));
    plain.setNoDelay(true);
    plain.off('error', onError);
    socket.off('error', onError);
    if (plain !== socket) plain.on('error', () => {}); // the TLS socket reports it
    resolve(new Channel(socket, options));
  });
  return promise;
}

/** @throws GodwitError tls-required to listen there without TLS, unless that is wanted */
export function checkListenAddress(address: string, { credentials, insecure }: Security): void {
  if (credentials || insecure || isLoopback(address)) return;
  throw tlsRequired(`${address} can be reached from other hosts`);
}

function isLocal({ remoteAddress }: Socket): boolean {
  return remoteAddress !== undefined && isLoopback(remoteAddress);
}

function isLoopback(address: string): boolean {
  if (address === 'localhost') return true;
  const family = isIP(address);
  return family !== 0 && LOOPBACK.check(address, family === 6 ? 'ipv6' : 'ipv4');
}

function tlsRequired(why: string): GodwitError {
  return new GodwitError(
    'tls-required',
    `${why}: give --tls-cert, --tls-key and --tls-ca, or --insecure in a network that you trust`,
  );
}
