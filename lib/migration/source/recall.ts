import type { Recall } from '../../guest/recall/recalls.ts';
import type { Course } from './basis.ts';

/**
 * The way on which another thread recalls the guest, opened long before it may be wanted. A guest that
 * somebody else has paused has none: it is not to run again.
 */
export async function openRecall({
  context,
  guest,
  ending,
  releases,
}: Course): Promise<Recall | undefined> {
  if (guest.arrives === 'paused') return undefined;
  try {
    const opening = context.recalls.open(guest.recallPlace);
    // Also when nobody waits for it any more.
    releases.add(
      () =>
        void opening.then(
          (recall) => recall.close(),
          () => {},
        ),
    );
    return await ending.or(opening);
  } catch (error) {
    if (!ending.cancellable) throw error;
    const why = (error as Error).message;
    context.log('warn', `the suspension has no thread of its own to watch it: ${why}`);
    return undefined;
  }
}
