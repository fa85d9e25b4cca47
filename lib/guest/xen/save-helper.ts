import type { ChildProcess } from 'node:child_process';
import { type HelperMessage, HelperMessages, REFUSED } from '../../stream/xen/helper-messages.ts';
import type { HelperLink } from './helper-link.ts';

/** libxc tells where it is in its rounds by this: `Frames iteration 2`, from 0. */
const ROUND = /^Frames iteration (\d+)$/;
const SUSPENDED = 'Domain now suspended';

/** What libxl has given its save helper, and its helper. */
export interface SaveHelperParts {
  /** libxl's answers. */
  readonly input: NodeJS.ReadableStream;
  /** What libxl hears. */
  readonly output: NodeJS.WritableStream;
  /** Xen's own helper, with pipes as its standard input and output. */
  readonly helper: ChildProcess;
  /** To the transport of the migration; undefined: this save is none that the agents move. */
  readonly link: HelperLink | undefined;
}

/**
 * Between libxl and its save helper: all is passed on as it is, but `suspend`, which waits until the
 * migration wants it. Who is not wanted is refused: libxc then cleans up, and the guest never stops.
 */
export class SaveHelper {
  readonly #parts: SaveHelperParts;
  /** Rounds of libxc that have begun. */
  #rounds = 0;
  /** What waits to be passed on. */
  #suspend: Buffer | undefined;
  /** libxl is about to answer the helper, which waits for that. */
  #isAsked = false;
  #isEnding = false;

  constructor(parts: SaveHelperParts) {
    const { input, helper, link } = parts;
    this.#parts = parts;
    const messages = new HelperMessages((message, bytes) => this.#heard(message, bytes));
    helper.stdout!.on('data', (bytes: Buffer) => messages.feed(bytes));
    helper.stdin!.on('error', () => {}); // it has ended, which is seen
    input.on('data', (bytes) => {
      helper.stdin!.write(bytes);
      this.#isAsked = false;
      if (this.#isEnding) helper.kill('SIGTERM');
    });
    link?.onSuspend(() => this.#goOn());
    link?.onLost(() => this.#refuse());
  }

  /**
   * The save is to end. Told so by a signal, libxc cleans up and has the guest run on; but not while it
   * waits for an answer, since then its helper ends at once: that gets its answer first.
   */
  end(): void {
    this.#isEnding = true;
    if (this.#suspend !== undefined) this.#refuse();
    else if (!this.#isAsked) this.#parts.helper.kill('SIGTERM');
  }

  /** Whatever is asked for is not to be done, which ends the save as well; nothing is asked for: nothing happens. */
  #refuse(): void {
    if (this.#suspend === undefined) return;
    this.#suspend = undefined;
    this.#parts.helper.stdin!.write(REFUSED);
  }

  #heard(message: HelperMessage, bytes: Buffer): void {
    const { link, output } = this.#parts;
    if (message.type === 'suspend' && (this.#isEnding || link?.isOpen)) {
      this.#suspend = Buffer.from(bytes);
      if (this.#isEnding) this.#refuse();
      else link!.asks(this.#rounds);
      return;
    }
    if (message.type === 'suspend' || message.type === 'question') this.#isAsked = true;
    const round = message.type === 'progress' ? ROUND.exec(message.what)?.[1] : undefined;
    if (message.type === 'progress' && round !== undefined && Number(round) >= this.#rounds) {
      this.#rounds = Number(round) + 1;
      link?.round(this.#rounds, message.total);
    }
    if (message.type === 'progress' && message.what === SUSPENDED) link?.stands();
    output.write(bytes);
  }

  #goOn(): void {
    if (this.#suspend === undefined) return;
    this.#parts.output.write(this.#suspend);
    this.#suspend = undefined;
    this.#isAsked = true;
  }
}
