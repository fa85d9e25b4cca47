import { ELEMENT } from '../../stream/qemu/format.ts';

const NAME = Buffer.from('\x0bglobalstate', 'latin1');
/** u32 instance, u32 version; then u32 length of the word with its NUL, and the word. */
const BEFORE_LENGTH = 8;
const MAX_WORD_BYTES = 32;

/** The section's first bytes, through the word; so much of what came before may be part of one. */
const LONGEST_SECTION = 5 + NAME.length + BEFORE_LENGTH + 4 + MAX_WORD_BYTES;

/**
 * Looks in a device state that passes by for the RunState that QEMU was in when it stopped the guest for
 * its migration (section `globalstate`). A guest can forge bytes of its devices, but all that it gets by
 * this is to be stopped.
 */
export class StateBeforeStop {
  #carry: Buffer = Buffer.alloc(0);
  #word: string | undefined;

  /** Takes the next bytes; they are not needed after the call. */
  add(bytes: Buffer): void {
    if (this.#word !== undefined) return;
    const window = Buffer.concat([this.#carry, bytes]);
    this.#word = stateIn(window);
    this.#carry = Buffer.from(window.subarray(-LONGEST_SECTION));
  }

  /** Undefined where there is none. */
  get word(): string | undefined {
    return this.#word;
  }
}

function stateIn(tail: Buffer): string | undefined {
  for (let at = tail.indexOf(NAME); at !== -1; at = tail.indexOf(NAME, at + 1)) {
    const isSection = at >= 5 && tail[at - 5] === ELEMENT.FULL;
    const from = at + NAME.length + BEFORE_LENGTH;
    if (!isSection || from + 4 > tail.length) continue;
    const length = tail.readUInt32BE(from) - 1;
    const word = tail.subarray(from + 4, from + 4 + length).toString('latin1');
    if (word.length === length && length < MAX_WORD_BYTES && /^[a-z-]+$/.test(word)) return word;
  }
  return undefined;
}
