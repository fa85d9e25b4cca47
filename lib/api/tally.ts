import type { MigrationView } from '../migration/view.ts';
import type { Outcome } from '../report/records.ts';
import { Histogram } from './histogram.ts';

/** Seconds: a guest's network notices tenths, its watchdogs seconds. */
const SUSPENSION_BOUNDS = [0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30];
/** Of a limit: above 1 the promise is missed. */
const RATIO_BOUNDS = [0.1, 0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.5, 2, 5];
/** Shares of the suspension by which its forecast was off. */
const ERROR_BOUNDS = [0.05, 0.1, 0.2, 0.3, 0.5, 1, 2];

/** What has come of the migrations that have ended since the daemon started. */
export class Tally {
  readonly ended: Readonly<Record<Outcome, number>> = {
    completed: 0,
    aborted: 0,
    cancelled: 0,
    failed: 0,
    'needs-resolve': 0,
  };
  /** Of guests that this host was sending. */
  readonly suspension = new Histogram(SUSPENSION_BOUNDS);
  readonly ratio = new Histogram(RATIO_BOUNDS);
  readonly forecastError = new Histogram(ERROR_BOUNDS);
  readonly promises = { kept: 0, missed: 0 };
  wireBytes = 0;
  pages = 0;
  reconnects = 0;

  add(view: MigrationView): void {
    const { role, outcome = 'failed', suspension, wireBytes, pagesSent, reconnects } = view;
    (this.ended as Record<Outcome, number>)[outcome]++;
    this.wireBytes += wireBytes;
    this.pages += pagesSent;
    this.reconnects += reconnects;
    if (role === 'send' && suspension !== undefined) this.#suspended(suspension);
  }

  #suspended(suspension: NonNullable<MigrationView['suspension']>): void {
    const { agentMs, guestMs = agentMs, forecastMs, limitMs } = suspension;
    this.suspension.add(guestMs / 1000);
    if (forecastMs !== undefined && guestMs > 0)
      this.forecastError.add(Math.abs(forecastMs - guestMs) / guestMs);
    if (limitMs === undefined) return;
    this.ratio.add(guestMs / limitMs);
    this.promises[guestMs <= limitMs ? 'kept' : 'missed']++;
  }
}
