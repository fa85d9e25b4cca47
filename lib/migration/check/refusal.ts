import { GodwitError } from '../../errors.ts';
import type { Finding } from '../../finding.ts';
import { within } from '../../poll.ts';

/** Whoever was refused waits no longer than this for what else stands in the way, ms. */
const OTHERS_MS = 3000;
/** Nothing is in the way of the guest: somebody or something has ended the attempt. */
const NOT_ABOUT_THE_GUEST = new Set<string>([
  ...['internal', 'cancelled', 'shutting-down', 'bad-message', 'interrupted', 'peer-closed'],
]);

/**
 * A refusal that says everything that stands in the way, so that nobody clears one thing after the
 * other: the reason that was met first, with its code, and what a look shows besides. Only a move that
 * is refused pays for the look.
 * @param look never waited for longer than a moment; what it throws is left out
 */
export async function withOthers(
  error: GodwitError,
  look: () => Promise<readonly Finding[]>,
): Promise<GodwitError> {
  if (NOT_ABOUT_THE_GUEST.has(error.code)) return error;
  const late = () => new Error('it takes too long');
  const found = await within(OTHERS_MS, look(), late).catch((): readonly Finding[] => []);
  const met = wordsOf(error.message);
  const others = found.filter(
    ({ verdict, text }) => verdict === 'no' && !met.includes(wordsOf(text)),
  );
  if (others.length === 0) return error;
  const texts = others.map(({ about, code, text }) => `${about}: ${text} (${code})`);
  const message = `${error.message}; also in the way: ${texts.join('; ')}`;
  return new GodwitError(error.code, message, { cause: error, fromPeer: error.fromPeer });
}

/** The same reason has other figures a moment later. */
function wordsOf(text: string): string {
  return text.replace(/[\d.]+/g, '#');
}
