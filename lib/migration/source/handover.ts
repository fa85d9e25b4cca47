import type { GodwitError } from '../../errors.ts';
import { SourceHandover } from '../../ownership/source-handover.ts';
import type { SourceContext } from './basis.ts';
import type { SourceSuspension } from './suspension.ts';

export interface HandoverContact {
  readonly entry: SourceHandover['entry'];
  readonly context: SourceContext;
  /** Undefined before stop-and-copy. */
  readonly suspension: () => SourceSuspension | undefined;
  /** Commit is about to be said for the first time. */
  readonly onCommit: () => void;
  readonly onReport: (moved: boolean, error: GodwitError | undefined) => void;
  readonly onChange: () => void;
}

/** The right to run the guest, with all that it has to do with the migration. */
export function openHandover(contact: HandoverContact): SourceHandover {
  const { entry, context, suspension, onCommit, onReport, onChange } = contact;
  const { journal, tenure, attach, definitionOf, hook, log } = context;
  let committing = false;
  return new SourceHandover({
    entry,
    journal,
    tenure,
    attach: () => attach(entry.handle),
    definition: () => definitionOf(entry.handle),
    hook,
    onSuspend: (agoMs) => suspension()?.begin(agoMs),
    onResume: () => suspension()?.end(),
    late: () => suspension()?.late(),
    // The last look at the clock: the disk may have taken its time.
    beforeCommit: () => {
      const late = committing ? undefined : suspension()?.late();
      if (!committing && late === undefined) onCommit();
      committing = true;
      return late;
    },
    onReport,
    onChange,
    log,
  });
}
