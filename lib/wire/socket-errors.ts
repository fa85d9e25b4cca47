import { type ErrorCode, GodwitError } from '../errors.ts';

export interface Address {
  readonly host: string;
  readonly port: number;
}

const CONNECT_CODES: Readonly<Record<string, ErrorCode>> = {
  ECONNREFUSED: 'connect-refused',
  ETIMEDOUT: 'connect-timeout',
  EHOSTUNREACH: 'host-unknown',
  ENETUNREACH: 'host-unknown',
  ENOTFOUND: 'host-unknown',
  EAI_AGAIN: 'host-unknown',
  ECONNRESET: 'peer-closed',
  EPIPE: 'peer-closed',
};

const CONNECT_TEXTS: Partial<Record<ErrorCode, (host: string, port: number) => string>> = {
  'connect-refused': (host, port) => `${host} refuses port ${port}: is the agent running there?`,
  'connect-timeout': (host, port) => `${host} port ${port} does not answer: is it firewalled?`,
  'host-unknown': (host) => `${host} cannot be found or reached from here`,
  'peer-closed': (host, port) => `${host} port ${port} closed the connection at once`,
};

/** Why a connection could not be made. */
export function connectError(cause: NodeJS.ErrnoException, { host, port }: Address): GodwitError {
  const code = CONNECT_CODES[cause.code ?? ''] ?? 'connect-failed';
  const text =
    CONNECT_TEXTS[code]?.(host, port) ?? `cannot connect to ${host} port ${port}: ${cause.message}`;
  return new GodwitError(code, text, { cause });
}

/** Why an established connection ended. */
export function lostError(cause: NodeJS.ErrnoException): GodwitError {
  if (cause.code?.startsWith('ERR_SSL')) {
    const why = (cause as { reason?: string }).reason ?? cause.message;
    return new GodwitError('tls-failed', `the peer ended TLS: ${why}`, { cause });
  }
  return cause.code === 'ETIMEDOUT'
    ? new GodwitError('peer-silent', 'the peer no longer acknowledges what is sent', { cause })
    : new GodwitError('peer-closed', `the connection was lost: ${cause.message}`, { cause });
}
