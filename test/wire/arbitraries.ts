import fc from 'fast-check';
import { frameHead } from '../../lib/wire/frame.ts';
import { type KindName, kindOf } from '../../lib/wire/kinds.ts';
import type { Messages } from '../../lib/wire/messages.ts';

const uint32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const uint64 = fc.maxSafeNat();
const fixed64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
// protobuf leaves out a zero of either sign
const double = fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value + 0);
const string = fc.string({ unit: 'grapheme', maxLength: 20 });
const bytes = fc.uint8Array({ maxLength: 40 });
const bool = fc.boolean();
const limits = fc.record({ lanes: uint32, batchPayload: uint32, window: uint32 });
const epoch = uint64;

/** Any message of each kind that the wire can carry. */
export const MESSAGES: { [K in KindName]: fc.Arbitrary<Messages[K]> } = {
  Hello: fc.record({
    minVersion: uint32,
    maxVersion: uint32,
    agent: string,
    features: fc.array(string),
    limits,
  }),
  Welcome: fc.record({ version: uint32, agent: string, features: fc.array(string), limits }),
  GuestOffer: fc.record({
    migration: string,
    epoch,
    guest: string,
    hypervisor: string,
    deviceModel: string,
    pageSize: uint32,
    regions: fc.array(fc.record({ name: string, firstPfn: uint32, pages: uint32 })),
    hashSeed: fixed64,
    verify: bool,
    keptSecret: bytes,
  }),
  Accept: fc.record({
    dataPorts: fc.array(uint32),
    secret: bytes,
    verifyRate: double,
    journalMs: double,
    placement: string,
    epoch,
    keptPages: uint32,
    diskPort: uint32,
  }),
  RoundBegin: fc.record({ round: uint32, stopAndCopy: bool, dirtyPages: uint32 }),
  DirtyList: fc.record({ round: uint32, firstPfn: uint32, gapRun: fc.array(uint32) }),
  RoundEnd: fc.record({ round: uint32, cutShort: bool }),
  Verdict: fc.record({ iteration: uint32, action: string, reason: string }),
  Suspend: fc.record({ limitMs: uint32, runState: string }),
  DeviceState: fc.record({ bytes: uint32, lane: fc.array(fixed64) }),
  StatePart: fc.record({ offset: uint32, hash: fixed64 }),
  KeptHashes: fc.record({ chunk: uint32 }),
  DiskBytes: fc.record({ stream: uint32 }),
  Digest: fc.record({ lane: fc.array(fixed64) }),
  Prepared: fc.record({ epoch, verifyMs: double, loadMs: double }),
  Commit: fc.record({ epoch, seal: bytes }),
  Withdraw: fc.record({ epoch }),
  Running: fc.record({ epoch, resumeMs: double, runState: string }),
  Refused: fc.record({ epoch, code: string, text: string }),
  Released: fc.record({ epoch }),
  Closed: fc.record({ epoch, guestSuspensionMs: double, clock: string }),
  Abort: fc.record({ code: string, text: string }),
  Ping: fc.record({ cookie: uint64 }),
  Pong: fc.record({ cookie: uint64 }),
  Rejoin: fc.record({ migration: string, secret: bytes, received: uint64 }),
  Rejoined: fc.record({ received: uint64 }),
  Recover: fc.record({ migration: string, secret: bytes, epoch, state: string }),
  Recovered: fc.record({ epoch, state: string }),
  RoundTaken: fc.record({ round: uint32 }),
  Aborted: fc.record({ epoch, code: string, text: string }),
  LaneOpen: fc.record({ migration: string, lane: uint32, secret: bytes, received: uint64 }),
  LaneReady: fc.record({ lane: uint32, received: uint64 }),
  PageBatch: fc.record({
    round: uint32,
    chunk: uint32,
    offsetDelta: fc.array(uint32),
    encodings: bytes,
    hashes: bytes,
    copyOf: fc.array(uint32),
    rawCompressed: bool,
    rawLength: uint32,
    deltaLength: uint32,
  }),
  Check: fc.record({
    id: string,
    guest: string,
    hypervisor: string,
    machine: string,
    memory: uint64,
    lanes: uint32,
    verify: bool,
    domain: string,
  }),
  CheckAnswer: fc.record({
    findings: fc.array(fc.record({ about: string, verdict: string, code: string, text: string })),
    verifyRate: double,
    journalMs: double,
    dataPorts: fc.array(uint32),
    secret: bytes,
  }),
  HostFacts: fc.record({
    name: string,
    cpus: uint32,
    system: string,
    agent: string,
    cpuMs: double,
    hypervisor: string,
  }),
  Ballast: fc.constant({}),
  Ack: fc.record({ busy: uint32 }),
};

/** Header, body and payload of one frame. */
export function frameOf(
  kind: KindName,
  sequence: number,
  body: Uint8Array = Buffer.alloc(0),
  payload: Uint8Array = Buffer.alloc(0),
): Buffer {
  return Buffer.concat([frameHead(kindOf(kind), sequence, body, payload.length), payload]);
}
