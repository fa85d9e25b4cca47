import type { Finding } from '../../finding.ts';
import type { Forecast } from '../../precopy/forecast.ts';
import type { PolicyLimits } from '../../precopy/stats.ts';
import type { MigrationRequest } from '../view.ts';
import type { MeasuredWay } from './ballast.ts';

/** A finding, and the host that it is about. */
export interface SidedFinding extends Finding {
  readonly side: 'source' | 'destination';
}

/** What a check before a move has shown: plain JSON, times in ms, rates in bytes per second. */
export interface CheckView {
  readonly guest: string;
  /** `host:port`. */
  readonly destination: string;
  readonly policy: MigrationRequest['policy'];
  readonly limits: PolicyLimits;
  readonly findings: readonly SidedFinding[];
  /** Undefined when it could not be measured. */
  readonly way: (MeasuredWay & { readonly lanes: number }) | undefined;
  /** Undefined when too little is known for any. */
  readonly forecast: Forecast | undefined;
  /** refused: a finding says no; otherwise as the forecast has it. */
  readonly expected: 'refused' | Forecast['verdict'];
}
