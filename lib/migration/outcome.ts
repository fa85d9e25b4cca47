import type { GodwitError } from '../errors.ts';
import type { Outcome } from '../report/records.ts';

/** What a migration has come to that ended with that error, on either side. */
export function outcomeOf(error: GodwitError | undefined): Outcome {
  switch (error?.code) {
    case 'policy-abort':
    case 'suspension-limit':
      return 'aborted';
    case 'cancelled':
      return 'cancelled';
    default:
      return 'failed';
  }
}
