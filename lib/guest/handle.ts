import { GodwitError } from '../errors.ts';
import { bootId, type ProcessIdentity } from './process-identity.ts';

/** What finds a copy of a guest again, and what must be gone after it. Paths are absolute. */
export interface CopyPlace {
  /** The hypervisor's name. */
  readonly kind: string;
  readonly guest: string;
  /** Where its process is spoken to: a control socket, a monitor. */
  readonly socket: string;
  /** Missing while the copy is being made: then it is not known whether it has one. */
  readonly process?: BootProcess;
  /** Files that hold its memory. */
  readonly ram: readonly string[];
  /** It was paused by somebody else when it was to be moved away, and is to stay so. */
  readonly paused?: true;
  /** The file in which memory arrives that its hypervisor gets in a stream. */
  readonly staging?: string;
  /** Of a domain of libvirt or Xen, with dashes. */
  readonly uuid?: string;
  /** Of a domain of libvirt that comes: the file with what is to be its definition here. */
  readonly definition?: string;
  /** Of a domain of libvirt that comes: second names of the images that were made for its disks. */
  readonly images?: readonly string[];
  /** Of a domain of libvirt that goes: its definition goes as well. */
  readonly undefine?: true;
  /** Of a domain of Xen: one of the same UUID that comes later has another. */
  readonly domid?: number;
}

/** A process, told from all others that this host has had. */
export interface BootProcess extends ProcessIdentity {
  readonly bootId: string;
}

/** A copy whose process is known. */
export type FoundPlace = CopyPlace & { readonly process: BootProcess };

export function inThisBoot({ pid, startTime }: ProcessIdentity): BootProcess {
  return { pid, startTime, bootId: bootId() };
}

/** As the journal keeps it. */
export function handleOf({ process, ...place }: CopyPlace): string {
  return JSON.stringify({ ...place, ...process });
}

/** @throws GodwitError journal-invalid for what `handleOf` has not made for that kind */
export function placeOf(kind: string, handle: string): CopyPlace {
  const { pid, startTime, bootId, ...place } = parse(handle);
  const isWhole = [pid, startTime, bootId].every((part) => part !== undefined);
  const isNone = [pid, startTime, bootId].every((part) => part === undefined);
  const isPlace = place.kind === kind && typeof place.socket === 'string';
  if (!isPlace || !Array.isArray(place.ram) || !(isWhole || isNone))
    throw new GodwitError(
      'journal-invalid',
      `the journal has no ${kind} guest's handle: ${handle}`,
    );
  return isNone ? place : { ...place, process: { pid, startTime, bootId } as BootProcess };
}

function parse(handle: string): Omit<CopyPlace, 'process'> & Partial<BootProcess> {
  try {
    const parsed = JSON.parse(handle);
    if (typeof parsed === 'object' && parsed !== null) return parsed;
  } catch {
    // said by the caller
  }
  return { kind: '', guest: '', socket: '', ram: [] };
}
