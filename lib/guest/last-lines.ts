/** As much as an operator reads in one sentence. */
const MAX_CHARACTERS = 800;

/** Escape sequences of terminals, and single control characters. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x1f\x7f]/g;

/**
 * The last lines with text of what a program has printed, joined to one line without control
 * characters; empty when it printed nothing.
 */
export function lastLines(text: string, count: number): string {
  const lines = text
    .split(/[\r\n]+/)
    .map((line) => line.replace(CONTROL, '').trim())
    .filter((line) => line !== '');
  return lines.slice(-count).join('; ').slice(-MAX_CHARACTERS);
}
