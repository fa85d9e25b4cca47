import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';

/** A request of the VMM's main thread. */
export interface Request {
  readonly id: number;
  readonly operation: string;
  readonly argument: unknown;
}

export interface Reply {
  readonly id: number;
  readonly result?: unknown;
  /** Set instead of `result` when the operation threw. */
  readonly error?: unknown;
}

/** What a thread is started with, to be called by `GuestThread`. */
export interface MailboxEnds {
  readonly port: MessagePort;
  readonly word: SharedArrayBuffer;
}

/**
 * The guest's end of `GuestThread`. A vCPU never returns to its event loop: it looks at a shared word
 * between two writes and sleeps on it, so that a request is noticed at once, whatever it is doing.
 */
export class Mailbox {
  readonly #port: MessagePort;
  readonly #word: Int32Array;
  #seen = 0;

  constructor({ port, word }: MailboxEnds) {
    this.#port = port;
    this.#word = new Int32Array(word);
  }

  /** True when a request may have come since the last `serve`. */
  get called(): boolean {
    return Atomics.load(this.#word, 0) !== this.#seen;
  }

  /** Sleeps until a request comes or the time is over. */
  wait(ms: number): void {
    Atomics.wait(this.#word, 0, this.#seen, ms);
  }

  /** Answers every request that has come. */
  serve(handle: (operation: string, argument: unknown) => unknown): void {
    this.#seen = Atomics.load(this.#word, 0);
    for (;;) {
      const received = receiveMessageOnPort(this.#port);
      if (received === undefined) return;
      const { id, operation, argument } = received.message as Request;
      try {
        this.#answer({ id, result: handle(operation, argument) });
      } catch (error) {
        this.#answer({ id, error });
      }
    }
  }

  #answer(reply: Reply): void {
    this.#port.postMessage(reply);
  }
}
