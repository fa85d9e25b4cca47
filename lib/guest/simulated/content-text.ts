import { Random } from './random.ts';

/** Text: words drawn by Zipf's law from a made-up language, in sentences and lines. */

const WORDS = 8192;
/** Words are stored in slots, so that no table of offsets is needed. */
const SLOT = 16;
const SYLLABLES =
  'a an ar be ca ce com con de di do e en er es ex fi ge i il in is ka la le li lo ma me mi mo na ne ni no o on or pa pe po pre pro qua ra re ri ro sa se si so sta str ta te ti tion to tra u un ur va ve vi za'.split(
    ' ',
  );

const { letters, lengths } = makeWords();
const quads = new Uint32Array(letters.buffer);
const zipf = makeZipfTable();

/** Fills `bytes` from `start` to `end` with text. */
export function fillText(bytes: Uint8Array, start: number, end: number, random: Random): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  let at = start;
  while (at < end) {
    const draw = random.next();
    at = putWord(view, at, end, zipf[draw >>> 16]!);
    if (at < end) bytes[at++] = SEPARATORS[draw & 63]!;
  }
}

/** Fills `bytes` with zero-terminated names, as symbol and string tables hold them. */
export function fillNames(bytes: Uint8Array, start: number, end: number, random: Random): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  let at = start;
  while (at < end) {
    const draw = random.next();
    at = putWord(view, at, end, zipf[draw >>> 16]!);
    if (at < end) bytes[at++] = (draw & 1) === 0 ? 0x5f : 0;
  }
}

/** What follows a word: mostly a space, now and then the end of a sentence or line. */
const SEPARATORS = Uint8Array.from(`${' '.repeat(52)}\n\n\n\n\n,,,.-:=`, (c) => c.charCodeAt(0));

/** Four letters at a time; what that writes beyond the word is overwritten by what follows it. */
function putWord(view: DataView, at: number, end: number, word: number): number {
  const stop = at + lengths[word]!;
  if (stop + 4 > end) return putLastWord(view, at, Math.min(end, stop), word);
  for (let quad = word * (SLOT / 4); at < stop; at += 4) view.setUint32(at, quads[quad++]!, true);
  return stop;
}

function putLastWord(view: DataView, at: number, end: number, word: number): number {
  for (let letter = word * SLOT; at < end; ) view.setUint8(at++, letters[letter++]!);
  return at;
}

function makeWords(): { letters: Uint8Array; lengths: Uint8Array } {
  const random = new Random(1);
  const letters = new Uint8Array(WORDS * SLOT);
  const lengths = new Uint8Array(WORDS);
  for (let word = 0; word < WORDS; word++) {
    let text = '';
    const syllables = 1 + random.below(word < 200 ? 2 : 4);
    for (let i = 0; i < syllables; i++) text += SYLLABLES[random.below(SYLLABLES.length)];
    const { written } = new TextEncoder().encodeInto(
      text,
      letters.subarray(word * SLOT, (word + 1) * SLOT),
    );
    lengths[word] = written;
  }
  return { letters, lengths };
}

/** Word numbers, each as often as Zipf's law (frequency 1/rank) wants it among 2^16 draws. */
function makeZipfTable(): Uint16Array {
  const table = new Uint16Array(2 ** 16);
  let harmonic = 0;
  for (let rank = 1; rank <= WORDS; rank++) harmonic += 1 / rank;
  let at = 0;
  let owed = 0;
  for (let rank = 1; rank <= WORDS; rank++) {
    owed += table.length / (rank * harmonic);
    for (; at < owed && at < table.length; at++) table[at] = rank - 1;
  }
  return table;
}
