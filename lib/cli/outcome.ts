import { EXIT } from '../exit.ts';
import type { Outcome } from '../report/records.ts';

/** Exit codes of commands that wait for the end of a migration. */
export const EXIT_OF: Readonly<Record<Outcome, number>> = {
  completed: EXIT.completed,
  aborted: EXIT['aborted-by-policy'],
  cancelled: EXIT.cancelled,
  failed: EXIT.failed,
  'needs-resolve': EXIT['needs-resolve'],
};
