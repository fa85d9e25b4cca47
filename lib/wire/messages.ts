import type { Region } from '../memory/guest-layout.ts';

/**
 * The messages of proto/godwit.proto as the rest of the program sees them, field by field in the
 * same order. uint64 is a safe integer, fixed64 a bigint, bytes a view of the frame.
 */

export interface Limits {
  readonly lanes: number;
  readonly batchPayload: number;
  readonly window: number;
}

export interface Hello {
  readonly minVersion: number;
  readonly maxVersion: number;
  readonly agent: string;
  readonly features: readonly string[];
  readonly limits: Limits;
}

export interface Welcome {
  readonly version: number;
  readonly agent: string;
  readonly features: readonly string[];
  readonly limits: Limits;
}

export interface GuestOffer {
  readonly migration: string;
  readonly epoch: number;
  readonly guest: string;
  readonly hypervisor: string;
  readonly deviceModel: string;
  readonly pageSize: number;
  readonly regions: readonly Region[];
  readonly hashSeed: bigint;
  readonly verify: boolean;
  /** Empty: without the feature `kept`. */
  readonly keptSecret: Uint8Array;
}

export interface Accept {
  readonly dataPorts: readonly number[];
  readonly secret: Uint8Array;
  readonly verifyRate: number;
  readonly journalMs: number;
  readonly placement: string;
  readonly epoch: number;
  readonly diskPort: number;
  /** Pages of a kept copy, whose hashes will come; 0: there is none. */
  readonly keptPages: number;
}

export interface RoundBegin {
  readonly round: number;
  readonly stopAndCopy: boolean;
  readonly dirtyPages: number;
}

export interface DirtyList {
  readonly round: number;
  readonly firstPfn: number;
  readonly gapRun: readonly number[];
}

export interface RoundEnd {
  readonly round: number;
  readonly cutShort: boolean;
}

export interface Verdict {
  readonly iteration: number;
  readonly action: string;
  readonly reason: string;
}

export interface Suspend {
  readonly limitMs: number;
  readonly runState: string;
}

export interface DeviceState {
  readonly bytes: number;
  readonly lane: readonly bigint[];
}

export interface Digest {
  readonly lane: readonly bigint[];
}

export interface Prepared {
  readonly epoch: number;
  readonly verifyMs: number;
  readonly loadMs: number;
}

export interface Commit {
  readonly epoch: number;
  readonly seal: Uint8Array;
}

export interface Withdraw {
  readonly epoch: number;
}

export interface Running {
  readonly epoch: number;
  readonly resumeMs: number;
  readonly runState: string;
}

export interface Refused {
  readonly epoch: number;
  readonly code: string;
  readonly text: string;
}

export interface RoundTaken {
  readonly round: number;
}

export interface Aborted {
  readonly epoch: number;
  readonly code: string;
  readonly text: string;
}

export interface Released {
  readonly epoch: number;
}

export interface Closed {
  readonly epoch: number;
  readonly guestSuspensionMs: number;
  readonly clock: string;
}

export interface Abort {
  readonly code: string;
  readonly text: string;
}

export interface Rejoin {
  readonly migration: string;
  readonly secret: Uint8Array;
  readonly received: number;
}

export interface Rejoined {
  readonly received: number;
}

export interface Recover {
  readonly migration: string;
  readonly secret: Uint8Array;
  readonly epoch: number;
  readonly state: string;
}

export interface Recovered {
  readonly epoch: number;
  readonly state: string;
}

export interface Check {
  readonly id: string;
  readonly guest: string;
  readonly hypervisor: string;
  readonly machine: string;
  readonly memory: number;
  readonly lanes: number;
  readonly verify: boolean;
  readonly domain: string;
}

export interface Finding {
  readonly about: string;
  readonly verdict: string;
  readonly code: string;
  readonly text: string;
}

export interface CheckAnswer {
  readonly findings: readonly Finding[];
  readonly verifyRate: number;
  readonly journalMs: number;
  readonly dataPorts: readonly number[];
  readonly secret: Uint8Array;
}

export interface Ping {
  readonly cookie: number;
}

export interface Pong {
  readonly cookie: number;
}

export interface LaneOpen {
  readonly migration: string;
  readonly lane: number;
  readonly secret: Uint8Array;
  readonly received: number;
}

export interface LaneReady {
  readonly lane: number;
  readonly received: number;
}

export interface PageBatch {
  readonly round: number;
  readonly chunk: number;
  readonly offsetDelta: readonly number[];
  readonly encodings: Uint8Array;
  readonly hashes: Uint8Array;
  readonly copyOf: readonly number[];
  readonly rawCompressed: boolean;
  readonly rawLength: number;
  readonly deltaLength: number;
}

export interface StatePart {
  readonly offset: number;
  readonly hash: bigint;
}

export interface DiskBytes {
  readonly stream: number;
}

export interface KeptHashes {
  readonly chunk: number;
}

/** A record of a journal: lib/ownership/journal. Not a frame. */
export interface JournalRecord {
  readonly migration: string;
  readonly state: string;
  readonly epoch: number;
  readonly time: number;
  readonly guest: string;
  readonly hypervisor: string;
  readonly handle: string;
  readonly peer: string;
  readonly secret: Uint8Array;
  readonly code: string;
  readonly text: string;
  readonly held: boolean;
  readonly runState: string;
  readonly seal: Uint8Array;
}

export interface HostFacts {
  readonly name: string;
  readonly cpus: number;
  readonly system: string;
  readonly agent: string;
  readonly cpuMs: number;
  /** Empty: it is not told. */
  readonly hypervisor: string;
}

export type Ballast = Record<never, never>;
export interface Ack {
  /** Thousandths of the last moments in which whoever receives had work; 0: it does not say. */
  readonly busy: number;
}

/** The message of each frame kind. */
export interface Messages {
  readonly Hello: Hello;
  readonly Welcome: Welcome;
  readonly GuestOffer: GuestOffer;
  readonly Accept: Accept;
  readonly RoundBegin: RoundBegin;
  readonly DirtyList: DirtyList;
  readonly RoundEnd: RoundEnd;
  readonly Verdict: Verdict;
  readonly Suspend: Suspend;
  readonly DeviceState: DeviceState;
  readonly Digest: Digest;
  readonly Prepared: Prepared;
  readonly Commit: Commit;
  readonly Withdraw: Withdraw;
  readonly Running: Running;
  readonly Refused: Refused;
  readonly Aborted: Aborted;
  readonly RoundTaken: RoundTaken;
  readonly Released: Released;
  readonly Closed: Closed;
  readonly Abort: Abort;
  readonly Check: Check;
  readonly CheckAnswer: CheckAnswer;
  readonly HostFacts: HostFacts;
  readonly Ping: Ping;
  readonly Pong: Pong;
  readonly Rejoin: Rejoin;
  readonly Rejoined: Rejoined;
  readonly Recover: Recover;
  readonly Recovered: Recovered;
  readonly LaneOpen: LaneOpen;
  readonly LaneReady: LaneReady;
  readonly PageBatch: PageBatch;
  readonly Ballast: Ballast;
  readonly StatePart: StatePart;
  readonly KeptHashes: KeptHashes;
  readonly DiskBytes: DiskBytes;
  readonly Ack: Ack;
}
