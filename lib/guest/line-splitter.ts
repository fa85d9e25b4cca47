import { GodwitError } from '../errors.ts';

/**
 * Longest line of the control protocol: a dirty log of 512 GiB of guest in base64 is 22 MiB, a
 * device state of 16 MiB as much.
 */
export const MAX_LINE_BYTES = 24 * 2 ** 20;

/** Cuts a stream into lines; the newline is not part of a line. */
export class LineSplitter {
  readonly #limit: number;
  #held: Buffer[] = [];
  #heldBytes = 0;

  constructor(limit = MAX_LINE_BYTES) {
    this.#limit = limit;
  }

  /** The lines that end in this chunk. @throws GodwitError bad-message for a line above the limit */
  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let from = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, from)) {
      this.#hold(chunk.subarray(from, end));
      lines.push(Buffer.concat(this.#held).toString());
      this.#held = [];
      this.#heldBytes = 0;
      from = end + 1;
    }
    this.#hold(chunk.subarray(from));
    return lines;
  }

  #hold(piece: Buffer): void {
    this.#heldBytes += piece.length;
    if (this.#heldBytes > this.#limit)
      throw new GodwitError('bad-message', `a line is longer than ${this.#limit} bytes`);
    if (piece.length > 0) this.#held.push(piece);
  }
}
