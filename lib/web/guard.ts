import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { RequestRefused } from '../api/http.ts';
import { isLoopback } from '../wire/connect.ts';

/** Who may ask for the page. */
export interface Rules {
  /** Undefined: whoever can connect, as only this host can. */
  readonly token: string | undefined;
  /** It can be reached from this host only, by an address of this host or through a tunnel. */
  readonly isLocal: boolean;
}

/**
 * Turns away what does not come from the page itself, in the hands of whoever has the token.
 * - A site of somebody else whose name is made to lead to this host (DNS rebinding) is known by its Host.
 * - What another site has a browser send here is known by its Origin; browsers send one with all that is
 *   not a mere GET.
 * @throws RequestRefused 401, 403
 */
export function requireWelcome(request: IncomingMessage, { token, isLocal }: Rules): void {
  const { host, origin, authorization } = request.headers;
  if (isLocal && !namesThisHost(host))
    throw new RequestRefused(403, 'the page is asked for as localhost or a loopback address');
  if (token !== undefined && !matches(tokenIn(authorization), token))
    throw new RequestRefused(401, 'the page needs its token, as the password of any user name');
  const isLook = request.method === 'GET' || request.method === 'HEAD';
  if (!isLook && !isOwn(origin, host))
    throw new RequestRefused(403, 'only the page itself may change anything here');
}

function namesThisHost(host: string | undefined): boolean {
  const name = URL.parse(`http://${host}`)?.hostname.replace(/^\[(.*)\]$/, '$1');
  return host !== undefined && name !== undefined && isLoopback(name);
}

/** Whether the two are one place; in front of the daemon there may be TLS of somebody else. */
function isOwn(origin: string | undefined, host: string | undefined): boolean {
  const from = URL.parse(origin ?? '');
  return from !== null && URL.parse(`${from.protocol}//${host}`)?.origin === origin;
}

function tokenIn(authorization = ''): string {
  const [, scheme = '', given = ''] = /^(basic|bearer) (\S+)$/i.exec(authorization) ?? [];
  if (scheme.toLowerCase() === 'bearer') return given;
  return Buffer.from(given, 'base64')
    .toString('utf8')
    .replace(/^[^:]*:/, '');
}

/** Takes as long whatever is given: digests are of one length. */
function matches(given: string, token: string): boolean {
  return timingSafeEqual(digest(given), digest(token));
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
