import { asGodwitError, GodwitError } from '../errors.ts';

/** What the system says of a place that stays as it is until a person changes something. */
const LASTING = [
  ...['EACCES', 'EPERM', 'EROFS', 'ENOENT', 'ENOTDIR', 'EISDIR', 'EEXIST'],
  ...['ENAMETOOLONG', 'ELOOP', 'EINVAL'],
];

/** Why a daemon cannot start, and could not however often it is started: exit code 2, as the units know. */
export class HopelessStart extends GodwitError {}

/** A failed start, told apart: with a disk that is full or a port that is taken the next may succeed. */
export function startError(thrown: unknown): GodwitError {
  const error = asGodwitError(thrown);
  const { code, message } = error;
  const lasts = ['tls-required', 'journal-invalid'].includes(code) || isLasting(error);
  return lasts ? new HopelessStart(code, message, { cause: error }) : error;
}

function isLasting({ code, cause }: GodwitError): boolean {
  if (!(cause instanceof Error)) return false;
  if (cause instanceof GodwitError) return isLasting(cause);
  const { code: system } = cause as NodeJS.ErrnoException;
  // A lock file in a directory that others may write to: the agent itself says so.
  return system === undefined ? code === 'claim-failed' : LASTING.includes(system);
}
