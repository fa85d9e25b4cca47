import type { DiskProgress } from '../guest/guest.ts';
import type { DomainTerms, GuestLook, GuestTrouble } from '../guest/hypervisor.ts';
import type { EncodingCounts } from '../pages/counters.ts';
import type { MoveForecast } from '../precopy/past-moves.ts';
import type { Estimate, PolicyLimits, Verdict } from '../precopy/stats.ts';
import type { Outcome } from '../report/records.ts';

/**
 * Where a migration stands. A receiving agent sees the same phases. `recovery`: found in the journal
 * after a restart of the agent, being finished or undone.
 */
export type Phase = 'connecting' | 'precopy' | 'stop-and-copy' | 'handover' | 'recovery' | 'ended';

/** A guest that is kept from being moved. */
export interface HoldView {
  /** `until a cutover is ordered`, `until 2026-11-30 02:00`. */
  readonly until: string;
  /** It could be moved now within its limits. */
  readonly ready: boolean;
  /** Since it was ready for the first time. */
  readonly ms: number;
  /** What it has cost since then or in the last minute, bytes on the wire; undefined until it is known. */
  readonly wirePerMinute: number | undefined;
}

/** A migration as the control socket shows it: plain JSON, times in ms, rates per second. */
export interface MigrationView {
  readonly id: string;
  readonly role: 'send' | 'receive';
  readonly guest: string;
  /** The other agent, `host:port`. */
  readonly peer: string;
  readonly phase: Phase;
  /** ISO 8601. */
  readonly startedAt: string;
  readonly elapsedMs: number;
  readonly totalPages: number;
  /** Pass being sent, 1 is the first; 0 before. */
  readonly round: number;
  /** Pages of the running round and how many of them are sent. */
  readonly roundPages: number;
  readonly roundSent: number;
  /** Pages sent in all rounds. */
  readonly pagesSent: number;
  readonly wireBytes: number;
  /** Disks that go with the guest, while they are copied. */
  readonly disks: DiskProgress | undefined;
  /** Of disks, on the wire. */
  readonly diskBytes: number;
  /** How long the connection has been lost; undefined while it is not. */
  readonly outageMs: number | undefined;
  /** How often a lost connection came back. */
  readonly reconnects: number;
  /** Wire bytes per second over the last second or so. */
  readonly wireRate: number;
  /** Guest bytes per second acknowledged; 0 until measured. */
  readonly drainRate: number;
  /** Pages per second; −1 until known. */
  readonly dirtyRate: number;
  /** Pages a suspension now would have to send; −1 while unknown. */
  readonly dirtyPages: number;
  readonly estimate: Estimate | undefined;
  /** The forecast before it began; undefined where none was made. */
  readonly foretold: MoveForecast | undefined;
  readonly verdict: Verdict | undefined;
  /** Undefined while it is not held. */
  readonly hold: HoldView | undefined;
  readonly policy: string;
  readonly limits: PolicyLimits | undefined;
  /** Caps in bytes per second: while the guest runs, and while it is suspended. */
  readonly bandwidth: number | undefined;
  readonly suspendBandwidth: number | undefined;
  readonly encodings: EncodingCounts;
  /** What the agents still have to tell each other, and what keeps them from it. */
  readonly waitsFor: string | undefined;
  /**
   * Durable state of the right to run the guest, by the name that its machine (`lib/ownership`) has
   * for it; of an ended migration the last one before. Undefined before there is one.
   */
  readonly ownership: string | undefined;
  /**
   * What the guest does where it is to run and does not, as it follows "the guest": it stands for a
   * reason of its own, or has still to be made to run. Undefined when it simply runs.
   */
  readonly guestState: string | undefined;
  /** What a person has decided about it, where and when. */
  readonly decision: string | undefined;
  /** Once ended; `needs-resolve` already while it waits for a peer that does not come back. */
  readonly outcome: Outcome | undefined;
  readonly code: string | undefined;
  readonly message: string | undefined;
  /** A suspension limit that would have been enough, ms, where that is why it has not moved. */
  readonly enoughMs: number | undefined;
  /** Once the guest ran again on either side. */
  readonly suspension:
    | {
        agentMs: number;
        guestMs: number | undefined;
        clock: string | undefined;
        /** What the decision rested on, and the limit that was enforced, ms. */
        forecastMs: number | undefined;
        limitMs: number | undefined;
      }
    | undefined;
}

/** What is to be seen of a migration of which nothing is known yet. */
export const NOTHING_KNOWN: Omit<
  MigrationView,
  'id' | 'role' | 'guest' | 'peer' | 'phase' | 'startedAt'
> = {
  elapsedMs: 0,
  totalPages: 0,
  round: 0,
  roundPages: 0,
  roundSent: 0,
  pagesSent: 0,
  wireBytes: 0,
  disks: undefined,
  diskBytes: 0,
  outageMs: undefined,
  reconnects: 0,
  wireRate: 0,
  drainRate: 0,
  dirtyRate: -1,
  dirtyPages: -1,
  estimate: undefined,
  foretold: undefined,
  verdict: undefined,
  hold: undefined,
  policy: '',
  limits: undefined,
  bandwidth: undefined,
  suspendBandwidth: undefined,
  encodings: { zero: 0, raw: 0, same: 0, delta: 0, copy: 0 },
  waitsFor: undefined,
  ownership: undefined,
  guestState: undefined,
  decision: undefined,
  outcome: undefined,
  code: undefined,
  message: undefined,
  enoughMs: undefined,
  suspension: undefined,
};

/** What `POST /migrations` takes; the CLI has parsed and checked units already. */
export interface MigrationRequest extends DomainTerms {
  readonly guest: string;
  readonly host: string;
  readonly port: number;
  readonly policy: 'contract' | 'xen' | 'custom';
  /** Absolute path, with policy custom. */
  readonly policyModule?: string;
  /** Only what was given; defaults depend on the policy. */
  readonly limits: Partial<PolicyLimits>;
  /** Bytes per second: while the guest runs, and while it is suspended. */
  readonly bandwidth?: number;
  readonly suspendBandwidth?: number;
  readonly lanes?: number;
  readonly compression: 'auto' | 'off';
  readonly verify: boolean;
  /** Who asks for it: printable, for logs and ledgers. */
  readonly by?: string;
}

/** Changes in flight: `PATCH /migrations/ID`. null takes a limit away. */
export interface LimitsPatch {
  readonly maxSuspendMs?: number | null;
  readonly timeoutMs?: number | null;
  readonly prefer?: 'workload' | 'completion';
  readonly pauseBelowMs?: number | null;
  readonly abortAboveMs?: number | null;
  readonly maxIters?: number;
  readonly minRemaining?: number;
  /** See `lib/precopy/hold.ts`. */
  readonly hold?: string | null;
  /** Bytes per second: while the guest runs, and while it is suspended. */
  readonly bandwidth?: number | null;
  readonly suspendBandwidth?: number | null;
}

/** A guest of this host, or why nothing can be said about it. */
export type GuestView = GuestLook | GuestTrouble;
