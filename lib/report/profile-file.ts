import fs from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { GodwitError } from '../errors.ts';
import type { GuestProfile, WindowPages } from '../precopy/profile.ts';
import { replaceFile } from '../replace-file.ts';

/** A profile has a dozen windows; what is much larger is none. */
const MAX_BYTES = 64 << 10;

/** Keeps it as the newest one of its guest. @throws GodwitError ledger-failed */
export async function keepProfile(stateDir: string, profile: GuestProfile): Promise<void> {
  const file = profileFile(stateDir, profile.guest);
  try {
    await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
    await replaceFile(file, `${JSON.stringify(profile)}\n`);
  } catch (cause) {
    const text = `the profile cannot be kept in ${file}: ${(cause as Error).message}`;
    throw new GodwitError('ledger-failed', text, { cause });
  }
}

/**
 * The newest one of the guest; undefined when there is none.
 * @throws GodwitError ledger-invalid when the file holds something else
 */
export function newestProfile(stateDir: string, guest: string): GuestProfile | undefined {
  const file = profileFile(stateDir, guest);
  try {
    const text = fs.readFileSync(file, 'utf8');
    if (text.length <= MAX_BYTES) return requireProfile(JSON.parse(text));
    throw new Error(`it has ${text.length} characters`);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw new GodwitError('ledger-invalid', `${file} is no profile: ${message}`, { cause });
  }
}

function profileFile(stateDir: string, guest: string): string {
  return path.join(stateDir, 'profiles', `${guest}.json`);
}

function requireProfile(value: unknown): GuestProfile {
  const profile = value as GuestProfile;
  const { guest, time, ms, totalPages, workingSet, zeroShare, compressedShare, pace } = profile;
  const isShare = (share: unknown) => share === undefined || share === null || isCount(share, 1);
  const isGood =
    [guest, time].every((text) => typeof text === 'string') &&
    [ms, totalPages].every((number) => isCount(number)) &&
    [zeroShare, compressedShare].every(isShare) &&
    (pace === undefined || [pace.low, pace.high].every((factor) => isCount(factor))) &&
    workingSet.every(({ windowMs, pages, high }) =>
      [windowMs, pages, high].every((n) => isCount(n)),
    );
  if (!isGood || !rises(workingSet)) throw new Error('a figure in it is missing or impossible');
  return { ...profile, ...shares(zeroShare, compressedShare) };
}

/** JSON has no undefined. */
function shares(zero: number | null | undefined, compressed: number | null | undefined) {
  return { zeroShare: zero ?? undefined, compressedShare: compressed ?? undefined };
}

function isCount(value: unknown, max = Number.MAX_SAFE_INTEGER): boolean {
  return typeof value === 'number' && value >= 0 && value <= max;
}

/** Windows, the shortest first, none of them empty. */
function rises(workingSet: readonly WindowPages[]): boolean {
  return workingSet.every(({ windowMs }, i) => windowMs > (workingSet[i - 1]?.windowMs ?? 0));
}
