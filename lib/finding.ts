import { asGodwitError } from './errors.ts';

/** One thing that was looked at before a move: whether it stands in the way, and why. */
export interface Finding {
  /** What was looked at: lower-case letters and dashes. */
  readonly about: string;
  readonly verdict: 'ok' | 'no' | 'unknown';
  /** Of lib/errors.ts; empty when it is ok, and where nothing went wrong. */
  readonly code: string;
  /** For people. */
  readonly text: string;
}

/**
 * What a look shows: what it returns is ok, what it throws stands in the way. A hypervisor that does
 * not answer, or a fault of ours, proves neither.
 */
export async function lookAt(
  about: string,
  look: () => string | Promise<string>,
): Promise<Finding> {
  try {
    return { about, verdict: 'ok', code: '', text: await look() };
  } catch (thrown) {
    const { code, message: text } = asGodwitError(thrown);
    const proves = code !== 'not-seen' && code !== 'internal';
    return { about, verdict: proves ? 'no' : 'unknown', code, text };
  }
}

/** What only trying would show. */
export function notKnown(about: string, text: string): Finding {
  return { about, verdict: 'unknown', code: '', text };
}
