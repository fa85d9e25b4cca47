import type { CommonOptions } from '../lib/cli/serve-options.ts';
import type { Retention } from '../lib/report/history.ts';

/** What the sending daemon is started with. */
export interface SendDaemonOptions extends CommonOptions {
  /** Data connections per migration, unless a request says otherwise. */
  readonly lanes: number;
  readonly connectTimeoutMs: number;
  readonly retention: Retention;
  /** How long the memory of a guest that has left is kept for its return; 0: it is not. */
  readonly keepMemoryMs: number;
}
