import { MAX_CHANNELS, MAX_WINDOW, ownTerms, type Terms } from './handshake.ts';

const FEATURES = ['zstd'];
const BATCH_PAYLOAD = (1 << 20) + (64 << 10);
/** Batches of up to 1 MiB on their way per channel: enough for 10 Gbit/s over 6 ms. */
const SEND_WINDOW = 8;

/** What a sender offers. */
export function sendTerms(channels: number): Terms {
  const limits = { channels, batchPayload: BATCH_PAYLOAD, window: SEND_WINDOW };
  return ownTerms('godwit agent-send', FEATURES, limits);
}

/** What a receiver accepts at the most. */
export function receiveTerms(): Terms {
  const limits = { channels: MAX_CHANNELS, batchPayload: BATCH_PAYLOAD, window: MAX_WINDOW };
  return ownTerms('godwit agent-recv', FEATURES, limits);
}
