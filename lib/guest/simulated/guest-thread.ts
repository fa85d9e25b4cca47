import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import type { Reply, Request } from './mailbox.ts';

interface Pending {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** A thread of the guest (a vCPU, the heartbeat), called from the VMM's main thread. */
export class GuestThread {
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #word = new Int32Array(new SharedArrayBuffer(4));
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;

  /** Starts the thread; a call waits until it is up. `onDeath` is told why it ended by itself. */
  constructor(entry: URL, data: Record<string, unknown>, onDeath: (error: Error) => void) {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    this.#port.on('message', (reply: Reply) => this.#settle(reply));
    const mailbox = { port: port2, word: this.#word.buffer };
    this.#worker = new Worker(entry, {
      workerData: { ...data, mailbox },
      transferList: [port2],
    });
    this.#worker.on('error', (error) => {
      const reason = error instanceof Error ? error : new Error(String(error));
      for (const { reject } of this.#pending.values()) reject(reason);
      this.#pending.clear();
      onDeath(reason);
    });
  }

  /** Runs an operation on the thread between two of its writes. Rejects with what it threw. */
  call<Result>(operation: string, argument?: unknown): Promise<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const request: Request = { id: ++this.#lastId, operation, argument };
    this.#pending.set(request.id, { resolve, reject });
    this.#port.postMessage(request);
    Atomics.add(this.#word, 0, 1);
    Atomics.notify(this.#word, 0);
    return promise as Promise<Result>;
  }

  #settle(reply: Reply): void {
    const waiting = this.#pending.get(reply.id);
    this.#pending.delete(reply.id);
    if ('error' in reply) waiting?.reject(reply.error);
    else waiting?.resolve(reply.result);
  }
}
