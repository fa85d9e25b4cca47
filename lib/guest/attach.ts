import { readFileSync, rmSync } from 'node:fs';
import { GodwitError } from '../errors.ts';
import { removeUnmapped } from './file-users.ts';
import type { GuestCopy } from './guest.ts';
import type { CopyPlace, FoundPlace } from './handle.ts';
import { isAlive, looked, pids } from './process-identity.ts';

/** What a hypervisor does to find a copy; both reject when nobody answers in time. */
export interface Finding {
  /** Speaks to the copy, and makes sure that its process is the one that answers. */
  readonly connect: (place: FoundPlace) => Promise<GuestCopy>;
  /** Whoever answers there, if it waits for a guest; undefined when it does not wait. */
  readonly waiting: (place: CopyPlace) => Promise<GuestCopy | undefined>;
  /** Texts that stand together in the command line of a process that was started for that place. */
  readonly marks: (place: CopyPlace) => readonly string[];
  /** Frees what a copy that is gone has left behind. */
  readonly clear: (place: CopyPlace) => void | Promise<void>;
}

/**
 * The copy of that place. `gone` is proved: its process has ended, and its files are removed; or it
 * was being made when the agent died, and nothing has come of it.
 * @throws GodwitError not-seen when neither can be said
 */
export async function attach(place: CopyPlace, finding: Finding): Promise<GuestCopy | 'gone'> {
  if (place.process === undefined) return attachUnfinished(place, finding);
  const found = { ...place, process: place.process };
  if (!isAlive(found.process)) return gone(found, finding);
  try {
    return await finding.connect(found);
  } catch (cause) {
    if (!isAlive(found.process)) return gone(found, finding);
    throw notSeen(place, (cause as Error).message, cause);
  }
}

/** Only a process that waits for a guest can be what was being made: whatever runs had a whole handle. */
async function attachUnfinished(place: CopyPlace, finding: Finding): Promise<GuestCopy | 'gone'> {
  let copy: GuestCopy | undefined;
  try {
    copy = await finding.waiting(place);
  } catch (cause) {
    if (!isBeingStarted(finding.marks(place))) return gone(place, finding);
    throw notSeen(place, (cause as Error).message, cause);
  }
  if (copy !== undefined) return copy;
  throw notSeen(place, `whoever serves ${place.socket} does not wait for a guest`);
}

/** Frees what a copy that is gone has left behind; another one that has come since may have mapped it. */
export function removeFiles({ ram, staging }: CopyPlace): void {
  if (staging !== undefined) rmSync(staging, { force: true });
  for (const file of ram) removeUnmapped(file);
}

async function gone(place: CopyPlace, { clear }: Finding): Promise<'gone'> {
  await clear(place);
  return 'gone';
}

function notSeen({ guest }: CopyPlace, why: string, cause?: unknown): GodwitError {
  const text = `it cannot be said whether guest ${guest} is here: ${why}`;
  return new GodwitError('not-seen', text, { cause });
}

/** A process that has not opened its socket yet is known by its command line alone. */
function isBeingStarted(marks: readonly string[]): boolean {
  return pids().some((pid) => {
    const commandLine = looked(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
    return commandLine !== undefined && marks.every((mark) => commandLine.includes(mark));
  });
}
