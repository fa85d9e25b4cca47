import { BlockList, connect, isIP, type Socket } from 'node:net';
import { GodwitError } from '../errors.ts';
import { Connection, type ConnectionOptions } from './connection.ts';
import type { Security } from './credentials.ts';
import { type Address, connectError } from './socket-errors.ts';
import { secureClient, tlsError } from './tls.ts';

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

export interface Target extends Address {
  readonly timeoutMs: number;
  readonly security: Security;
  /** Ends the attempt; not the connection, once it stands. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * A connection to a peer that listens, over TLS when there are credentials.
 * @throws GodwitError connect-refused, connect-timeout, host-unknown, peer-closed, connect-failed,
 *   tls-failed, tls-name-mismatch, cancelled by the signal, and tls-required without credentials and off this host
 */
export function connectTo(to: Target, options: ConnectionOptions): Promise<Connection> {
  const { promise, resolve, reject } = Promise.withResolvers<Connection>();
  const { credentials, insecure } = to.security;
  const plain = connect({ host: to.host, port: to.port });
  const socket = credentials ? secureClient(plain, credentials, to.host) : plain;
  const settle = () => {
    clearTimeout(timer);
    to.signal?.removeEventListener('abort', onAbort);
  };
  const fail = (error: GodwitError) => {
    settle();
    socket.destroy();
    plain.destroy();
    reject(error);
  };
  const onError = (error: Error) => fail(tlsError(error, to.host) ?? connectError(error, to));
  const onAbort = () => fail(wantedNoMore());
  const timer = setTimeout(() => {
    const text = `${to.host} port ${to.port} did not answer within ${to.timeoutMs} ms`;
    fail(new GodwitError('connect-timeout', text));
  }, to.timeoutMs);
  to.signal?.addEventListener('abort', onAbort);
  if (to.signal?.aborted) onAbort();
  plain.on('error', onError);
  socket.on('error', onError);
  socket.once(credentials ? 'secureConnect' : 'connect', () => {
    settle();
    if (!credentials && !insecure && !isLocal(plain))
      return fail(tlsRequired(`${to.host} is another host`));
    plain.setNoDelay(true);
    plain.off('error', onError);
    socket.off('error', onError);
    if (plain !== socket) plain.on('error', () => {}); // the TLS socket reports it
    resolve(new Connection(socket, options));
  });
  return promise;
}

/** What is said when the wait for a connection is called off. */
export function wantedNoMore(): GodwitError {
  return new GodwitError('cancelled', 'the connection is wanted no more');
}

/** @throws GodwitError tls-required to listen there without TLS, unless that is wanted */
export function checkListenAddress(address: string, { credentials, insecure }: Security): void {
  if (credentials || insecure || isLoopback(address)) return;
  throw tlsRequired(`${address} can be reached from other hosts`);
}

function isLocal({ remoteAddress }: Socket): boolean {
  return remoteAddress !== undefined && isLoopback(remoteAddress);
}

/** Whether it is an address of this host that only this host reaches, or stands for one. */
export function isLoopback(address: string): boolean {
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
