import { GodwitError } from '../../errors.ts';
import { CHUNK_SIZE } from '../../memory/guest-layout.ts';
import type { Link } from '../../wire/link.ts';
import { DISKS_FEATURE, KEPT_FEATURE } from '../../wire/terms.ts';
import type { MigrationRequest } from '../view.ts';
import type { Course } from './basis.ts';
import type { Conversation } from './conversation.ts';

export interface Connected {
  readonly link: Link;
  readonly lanes: number;
  /** Batches that may be on their way on one lane. */
  readonly window: number;
  readonly compression: MigrationRequest['compression'];
  /** The destination may have kept memory of the guest. */
  readonly mayHaveKept: boolean;
}

/** Connects to the destination and agrees on terms. */
export async function connect(course: Course, destination: Conversation): Promise<Connected> {
  const { request, guest, ending, releases } = course;
  releases.add(() => destination.close());
  const { link, welcome, peerIdentity } = await ending.or(destination.open());
  const { lanes, window, batchPayload } = welcome.limits;
  if (batchPayload < CHUNK_SIZE)
    throw new GodwitError(
      'bad-message',
      `the receiver takes batches of ${batchPayload} bytes; a chunk needs ${CHUNK_SIZE}`,
    );
  if (guest.disks !== undefined && !welcome.features.includes(DISKS_FEATURE)) {
    const text =
      "the destination's agent-recv is of an older version, which takes no copies of disks";
    throw new GodwitError('bad-version', text);
  }
  const compression = welcome.features.includes('zstd') ? request.compression : 'off';
  const mayHaveKept = welcome.features.includes(KEPT_FEATURE);
  keepFor(peerIdentity, course);
  return { link, lanes, window, compression, mayHaveKept };
}

/** When it has moved, its memory stays here for its return from there. */
function keepFor(identity: string, { context, guest, facts }: Course): void {
  const { keepMemory } = context;
  if (keepMemory === undefined) return;
  const { hypervisor } = guest.description;
  if (guest.keepMemory) guest.keepMemory((memory) => keepMemory(memory, identity));
  else facts.note(`its memory is not kept here: it is gone with its ${hypervisor} process`);
}
