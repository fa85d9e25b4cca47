import { MAX_LANES, MAX_WINDOW, ownTerms, type Terms } from './handshake.ts';

/** A check may be asked for: WIRE.md, Check. */
export const CHECK_FEATURE = 'check';
/** A check may carry a domain of libvirt: WIRE.md, Check. */
export const DOMAIN_FEATURE = 'domain';
/** Acknowledgements of a lane carry how busy its receiver is: WIRE.md, Links. */
export const LOAD_FEATURE = 'load';
/** Disks may be copied: WIRE.md, Disks. */
export const DISKS_FEATURE = 'disks';
/** A receiver may tell hashes of memory that it has kept: WIRE.md, Kept memory. */
export const KEPT_FEATURE = 'kept';
const FEATURES = [
  ...['zstd', CHECK_FEATURE, DOMAIN_FEATURE, LOAD_FEATURE],
  ...[DISKS_FEATURE, KEPT_FEATURE],
];
const BATCH_PAYLOAD = (1 << 20) + (64 << 10);
/** Batches of up to 1 MiB on their way per lane: enough for 10 Gbit/s over 6 ms. */
const SEND_WINDOW = 8;

/** What a sender offers. */
export function sendTerms(lanes: number): Terms {
  const limits = { lanes, batchPayload: BATCH_PAYLOAD, window: SEND_WINDOW };
  return ownTerms('godwit agent-send', FEATURES, limits);
}

/** What a receiver accepts at the most. */
export function receiveTerms(): Terms {
  const limits = { lanes: MAX_LANES, batchPayload: BATCH_PAYLOAD, window: MAX_WINDOW };
  return ownTerms('godwit agent-recv', FEATURES, limits);
}
