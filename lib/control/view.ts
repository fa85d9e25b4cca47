import type { Estimate, PolicyLimits, Verdict } from '../precopy/stats.ts';
import type { EncodingCounts, Outcome } from '../report/records.ts';

/**
 * Where a migration stands. A receiving agent sees the same phases. `recovery`: found in the journal
 * after a restart of the agent, being finished or undone.
 */
export type Phase = 'connecting' | 'precopy' | 'stop-and-copy' | 'handover' | 'recovery' | 'ended';

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
  /** Wire bytes per second over the last second or so. */
  readonly wireRate: number;
  /** Guest bytes per second acknowledged; 0 until measured. */
  readonly drainRate: number;
  /** Pages per second; −1 until known. */
  readonly dirtyRate: number;
  /** Pages a suspension now would have to send; −1 while unknown. */
  readonly dirtyPages: number;
  readonly estimate: Estimate | undefined;
  readonly verdict: Verdict | undefined;
  readonly policy: string;
  readonly limits: PolicyLimits | undefined;
  /** Cap in bytes per second. */
  readonly bandwidth: number | undefined;
  readonly encodings: EncodingCounts;
  /** What the agents still have to tell each other, and what keeps them from it. */
  readonly waitsFor: string | undefined;
  /** Once ended; `needs-resolve` already while it waits for a peer that does not come back. */
  readonly outcome: Outcome | undefined;
  readonly code: string | undefined;
  readonly message: string | undefined;
  /** Once the guest ran again on either side. */
  readonly suspension:
    | { agentMs: number; guestMs: number | undefined; clock: string | undefined }
    | undefined;
}

/** The view of a migration of which nothing but its journal is known. */
export function bareView(
  known: Pick<MigrationView, 'id' | 'role' | 'guest' | 'peer' | 'phase' | 'startedAt'>,
): MigrationView {
  return {
    ...known,
    elapsedMs: Date.now() - Date.parse(known.startedAt),
    totalPages: 0,
    round: 0,
    roundPages: 0,
    roundSent: 0,
    pagesSent: 0,
    wireBytes: 0,
    wireRate: 0,
    drainRate: 0,
    dirtyRate: -1,
    dirtyPages: -1,
    estimate: undefined,
    verdict: undefined,
    policy: '',
    limits: undefined,
    bandwidth: undefined,
    encodings: { zero: 0, raw: 0, same: 0, delta: 0, copy: 0 },
    waitsFor: undefined,
    outcome: undefined,
    code: undefined,
    message: undefined,
    suspension: undefined,
  };
}

/** What `POST /migrations` takes; the CLI has parsed and checked units already. */
export interface MigrationRequest {
  readonly guest: string;
  readonly host: string;
  readonly port: number;
  readonly policy: 'contract' | 'xen' | 'custom';
  /** Absolute path, with policy custom. */
  readonly policyModule?: string;
  /** Only what was given; defaults depend on the policy. */
  readonly limits: Partial<PolicyLimits>;
  /** Bytes per second. */
  readonly bandwidth?: number;
  readonly channels?: number;
  readonly compression: 'auto' | 'off';
  readonly verify: boolean;
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
  /** Bytes per second. */
  readonly bandwidth?: number | null;
}

/** A guest that this agent could send. */
export interface GuestView {
  readonly name: string;
  readonly hypervisor: string;
  readonly status: string;
  readonly memoryBytes: number;
}

/** Exit codes of every command, the same for both agents. */
export const EXIT = {
  completed: 0,
  failed: 1,
  usage: 2,
  'aborted-by-policy': 3,
  cancelled: 4,
  'needs-resolve': 5,
  'no-daemon': 6,
} as const;
