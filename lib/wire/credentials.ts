import fs from 'node:fs';
import tls from 'node:tls';
import { GodwitError } from '../errors.ts';

/** What an agent shows and believes: PEM text, so that it can go to worker threads as it is. */
export interface Credentials {
  readonly cert: string;
  readonly key: string;
  /** Who may have signed the other side's certificate. */
  readonly ca: string;
}

/** How a connection between agents is protected. */
export interface Security {
  /** Undefined: not at all, and then only on this host unless `insecure`. */
  readonly credentials: Credentials | undefined;
  readonly insecure: boolean;
}

/**
 * Reads certificate, key and CA. Others may read neither the key nor write any of them.
 * @throws GodwitError bad-option
 */
export function readCredentials(files: {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}): Credentials {
  const credentials = {
    cert: readProtected(files.cert, 0o022, 'written'),
    key: readProtected(files.key, 0o077, 'read or written'),
    ca: readProtected(files.ca, 0o022, 'written'),
  };
  try {
    tls.createSecureContext(credentials);
  } catch (cause) {
    const why = (cause as Error).message;
    throw new GodwitError(
      'bad-option',
      `${files.cert}, ${files.key} and ${files.ca} do not go together: ${why}`,
      { cause },
    );
  }
  return credentials;
}

/**
 * Text of a file that others may not use.
 * @param forbidden bits of its mode, and `what` others could do with them
 * @throws GodwitError bad-option
 */
export function readProtected(file: string, forbidden: number, what: string): string {
  let text: string;
  let mode: number;
  try {
    mode = fs.statSync(file).mode;
    text = fs.readFileSync(file, 'utf8');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    throw new GodwitError('bad-option', `${file} cannot be read: ${code}`, { cause });
  }
  if ((mode & forbidden) !== 0)
    throw new GodwitError(
      'bad-option',
      `${file} can be ${what} by others: chmod ${forbidden === 0o077 ? '600' : '644'} ${file}`,
    );
  return text;
}
