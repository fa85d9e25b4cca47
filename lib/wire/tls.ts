import type { Server, Socket } from 'node:net';
import tls from 'node:tls';
import { type ErrorCode, GodwitError } from '../errors.ts';
import { fingerprintOf, namesOf } from './certificate-names.ts';
import type { Credentials } from './credentials.ts';
import { beginsFrame } from './frame.ts';

/** Both sides are of one kind and one version: nothing older has to be spoken. */
const VERSION = { minVersion: 'TLSv1.3', maxVersion: 'TLSv1.3' } as const;
/** Time that a connection gets for its handshake, ms. */
const HANDSHAKE_MS = 5000;

/** The words for what is wrong with a certificate; other codes of OpenSSL speak for themselves. */
const CERTIFICATE_WORDS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'it has expired',
  CERT_NOT_YET_VALID: 'it is not valid yet: do the clocks agree?',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'it is signed by itself, not by the CA',
  SELF_SIGNED_CERT_IN_CHAIN: 'it is signed by another CA',
  UNABLE_TO_GET_ISSUER_CERT: 'it is signed by another CA',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'it is signed by another CA',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'it is signed by another CA',
  CERT_SIGNATURE_FAILURE: 'it is signed by another CA',
  INVALID_PURPOSE: 'it was not made for this purpose',
};

/**
 * TLS over a socket that is being connected. The certificate must be for `name`.
 * The caller hears of failures by the socket's `error`, to be worded by `tlsError`.
 */
export function secureClient(
  socket: Socket,
  credentials: Credentials,
  name: string,
): tls.TLSSocket {
  return tls.connect({ ...credentials, ...VERSION, socket, host: name, servername: sniOf(name) });
}

/** An address is checked against the certificate's, but has no place in SNI. */
function sniOf(name: string): string {
  return /^[\d.]+$|:/.test(name) ? '' : name;
}

/** Why a TLS connection could not be made, or undefined when TLS was not the reason. */
export function tlsError(cause: NodeJS.ErrnoException, name: string): GodwitError | undefined {
  const refuse = (code: ErrorCode, text: string) => new GodwitError(code, text, { cause });
  const { code = '', message } = cause;
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return refuse(
      'tls-name-mismatch',
      `the receiver's certificate is not for "${name}": ${message.replace(/^[^:]*: /, '')}`,
    );
  const words = CERTIFICATE_WORDS[code];
  if (words) return refuse('tls-failed', `the receiver's certificate is refused: ${words}`);
  if (/before secure TLS connection/.test(message))
    return refuse(
      'tls-failed',
      `${name} ended the connection in the TLS handshake: does it use TLS?`,
    );
  if (/WRONG_VERSION_NUMBER|PACKET_LENGTH|RECORD_LAYER|HTTP_REQUEST/.test(code))
    return refuse('tls-failed', `${name} does not speak TLS there: is it set up for it?`);
  if (code.startsWith('ERR_SSL'))
    return refuse('tls-failed', `TLS with ${name} failed: ${reasonOf(cause)}`);
  return undefined;
}

function reasonOf(cause: Error): string {
  return (cause as { reason?: string }).reason ?? cause.message;
}

/** What a server does with a connection: `refusal` is why its peer may not stay. */
export interface TlsHost {
  readonly credentials: Credentials;
  /** Whether a socket may begin its handshake; one that may not is closed by who says so. */
  readonly accepts?: (socket: Socket) => boolean;
  /** Why this certificate, signed by the CA and valid, is refused all the same. */
  readonly refuses: (certificate: tls.PeerCertificate) => string | undefined;
  /** `refusal` is to be told over the connection, and then it ends. */
  readonly onConnection: (socket: tls.TLSSocket, refusal: GodwitError | undefined) => void;
  /** The handshake itself failed. */
  readonly onFailure: (error: GodwitError, socket: Socket) => void;
  /** A sender that does not speak TLS is there, and could be told so; without it, it is a failure. */
  readonly onPlain?: (socket: Socket) => void;
}

/**
 * Makes what connects to the server speak TLS first. The peer's certificate is judged here and not
 * by the handshake, so that its operator can be told what is wrong with it.
 * @returns has it show and believe something else to whoever connects from then on
 */
export function secureServer(server: Server, host: TlsHost): (renewed: Credentials) => void {
  const { credentials, accepts, refuses, onConnection, onFailure, onPlain } = host;
  const secure = tls.createServer({
    ...credentials,
    ...VERSION,
    requestCert: true,
    rejectUnauthorized: false,
    handshakeTimeout: HANDSHAKE_MS,
  });
  secure.on('secureConnection', (socket) => onConnection(socket, refusalOf(socket, refuses)));
  secure.on('tlsClientError', (cause: NodeJS.ErrnoException, socket) => {
    const text = `a TLS handshake failed: ${handshakeWords(cause)}`;
    onFailure(new GodwitError('tls-failed', text, { cause }), socket);
  });
  server.on('connection', (socket) => {
    if (accepts !== undefined && !accepts(socket)) return;
    if (onPlain === undefined) secure.emit('connection', socket);
    else
      hearFirst(socket, { onPlain, onFailure, onOther: () => secure.emit('connection', socket) });
  });
  return (renewed) => secure.setSecureContext({ ...renewed, ...VERSION });
}

/** Looks at the first bytes of a connection and puts them back. */
function hearFirst(
  socket: Socket,
  heard: Required<Pick<TlsHost, 'onPlain' | 'onFailure'>> & { readonly onOther: () => void },
): void {
  const settle = () => {
    clearTimeout(timer);
    socket.off('readable', look).off('error', failed).off('close', settle);
  };
  const failed = (cause: Error) => {
    settle();
    heard.onFailure(new GodwitError('peer-closed', cause.message, { cause }), socket);
  };
  const look = () => {
    const first: Buffer | null = socket.read();
    settle();
    if (first !== null && beginsFrame(first)) return heard.onPlain(socket);
    if (first !== null) socket.unshift(first);
    heard.onOther();
  };
  const timer = setTimeout(
    () => failed(new Error(`nothing was said within ${HANDSHAKE_MS} ms`)),
    HANDSHAKE_MS,
  );
  socket.on('readable', look).on('error', failed).on('close', settle);
}

function refusalOf(socket: tls.TLSSocket, refuses: TlsHost['refuses']): GodwitError | undefined {
  const certificate = socket.getPeerCertificate();
  const shown = Object.keys(certificate).length > 0;
  if (!shown) return new GodwitError('peer-not-allowed', 'the sender shows no certificate');
  if (!socket.authorized) {
    const code = String(socket.authorizationError);
    const why = CERTIFICATE_WORDS[code] ?? code;
    return new GodwitError('peer-not-allowed', `the sender's certificate is refused: ${why}`);
  }
  const why = refuses(certificate);
  if (why === undefined) return undefined;
  const who = namesOf(certificate)[0]?.value ?? 'without a name';
  const print = `sha256:${fingerprintOf(certificate)}`;
  return new GodwitError('peer-not-allowed', `certificate "${who}" (${print}) ${why}`);
}

function handshakeWords(cause: NodeJS.ErrnoException): string {
  if (/HTTP_REQUEST|WRONG_VERSION_NUMBER|PACKET_LENGTH|RECORD/.test(cause.code ?? ''))
    return 'what connected does not speak TLS';
  if (/UNSUPPORTED_PROTOCOL/.test(cause.code ?? '')) return 'what connected does not speak TLS 1.3';
  return reasonOf(cause);
}
