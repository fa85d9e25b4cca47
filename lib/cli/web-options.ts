import { GodwitError } from '../errors.ts';
import type { WebOptions } from '../web/server.ts';
import { isLoopback } from '../wire/connect.ts';
import { readProtected, type Security } from '../wire/credentials.ts';
import type { Input, Option } from './cli.ts';
import { parseListen } from './listen-address.ts';
import { MAX_SOCKET_PATH, pathOf } from './path-option.ts';

/** What can be typed, and not be guessed: `openssl rand -hex 16` has 32 characters. */
const TOKEN = /^[\x21-\x7e]{16,256}$/;

/** Where the page of an agent is, and who may see it. */
export const webOptions: Readonly<Record<string, Option>> = {
  web: {
    value: 'HOST:PORT|PATH',
    help: 'a page that shows and steers migrations, there or\non a Unix socket',
    otherwise: 'none',
  },
  'web-token': {
    value: 'FILE',
    help: 'what the page asks for as a password; needed where\nother hosts can reach it',
  },
};

/** @throws GodwitError bad-option, also where others could see it or listen to it */
export function webOf(input: Input, { credentials, insecure }: Security): WebOptions | undefined {
  const text = input.option('web');
  const token = tokenIn(input.option('web-token'));
  if (text === undefined) {
    if (token !== undefined) throw refuse('--web-token goes with --web');
    return undefined;
  }
  if (text.includes('/')) return { at: pathOf(input, 'web', '', MAX_SOCKET_PATH), token };
  const at = parseListen(text, '--web');
  if (isLoopback(at.host)) return { at, token };
  if (token === undefined)
    throw refuse(`--web ${text} can be reached from other hosts: it needs --web-token`);
  if (credentials === undefined && !insecure)
    throw refuse(
      `--web ${text} would send its token as plain text: give --tls-cert, or --insecure`,
    );
  return { at, token };
}

/** The file has nothing else. Its content is in no error: that would be in logs. */
function tokenIn(file: string | undefined): string | undefined {
  if (file === undefined) return undefined;
  const token = readProtected(file, 0o077, 'read or written').trim();
  if (TOKEN.test(token)) return token;
  throw refuse(`--web-token ${file} has to hold 16 to 256 printable characters without spaces`);
}

function refuse(why: string): GodwitError {
  return new GodwitError('bad-option', why);
}
