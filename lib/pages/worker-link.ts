import assert from 'node:assert/strict';
import { type MessagePort, Worker } from 'node:worker_threads';
import { asGodwitError, type ErrorCode, GodwitError } from '../errors.ts';

/**
 * Requests from the main thread to a worker and their answers. Few and small: once a round, not
 * once a batch.
 */

/**
 * The compressor leaves a buffer of up to a chunk per batch to the garbage collector, which frees
 * it with the small objects of the same batch: a small young generation keeps few of them waiting.
 */
const WORKER_LIMITS = { maxYoungGenerationSizeMb: 2 };

/** What a worker can be asked: argument and answer of each request. */
export type Requests = Record<string, { argument: unknown; answer: unknown }>;

type Handlers<R extends Requests> = {
  [K in keyof R]: (argument: R[K]['argument']) => R[K]['answer'] | Promise<R[K]['answer']>;
};

interface PlainError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly fromPeer: boolean;
}

type FromWorker =
  | { readonly id: number; readonly answer: unknown }
  | { readonly id: number; readonly error: PlainError }
  | { readonly failed: PlainError };

/** Main thread's end. A worker that fails or exits rejects everything asked of it. */
export class WorkerLink<R extends Requests> {
  readonly #worker: Worker;
  readonly #pending = new Map<
    number,
    { resolve: (answer: never) => void; reject: (error: GodwitError) => void }
  >();
  #nextId = 0;
  #failure: GodwitError | undefined;
  #stopping = false;

  constructor(entry: URL, workerData: unknown, onFailure: (error: GodwitError) => void) {
    this.#worker = new Worker(entry, { workerData, resourceLimits: WORKER_LIMITS });
    const fail = (error: GodwitError) => {
      if (this.#failure || this.#stopping) return;
      this.#failure = error;
      this.#rejectAll(error);
      onFailure(error);
    };
    this.#worker.on('message', (message: FromWorker) => {
      if ('failed' in message) fail(revive(message.failed));
      else this.#settle(message);
    });
    this.#worker.on('error', (error) => fail(asGodwitError(error)));
    this.#worker.on('exit', (code) =>
      fail(new GodwitError('internal', `a worker thread ended by itself (code ${code})`)),
    );
  }

  request<K extends keyof R & string>(
    type: K,
    argument: R[K]['argument'],
  ): Promise<R[K]['answer']> {
    if (this.#failure) return Promise.reject(this.#failure);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      this.#worker.postMessage({ id, type, argument });
    });
  }

  /** Ends the thread: its sockets, files and memory go with it. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#rejectAll(new GodwitError('cancelled', 'the worker was stopped'));
    await this.#worker.terminate();
  }

  #settle(message: Exclude<FromWorker, { failed: unknown }>): void {
    const waiting = this.#pending.get(message.id);
    if (!waiting) return;
    this.#pending.delete(message.id);
    if ('error' in message) waiting.reject(revive(message.error));
    else waiting.resolve(message.answer as never);
  }

  #rejectAll(error: GodwitError): void {
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }
}

/**
 * The worker's end: answers requests by their handlers. Returns the function that reports a failure
 * nobody asked about.
 */
export function serveRequests<R extends Requests>(
  port: MessagePort | null,
  handlers: Handlers<R>,
): (error: unknown) => void {
  assert(port, 'runs as a worker thread');
  port.on(
    'message',
    async ({ id, type, argument }: { id: number; type: keyof R; argument: never }) => {
      try {
        port.postMessage({ id, answer: await handlers[type](argument) });
      } catch (error) {
        port.postMessage({ id, error: plain(error) });
      }
    },
  );
  return (error) => port.postMessage({ failed: plain(error) });
}

function plain(error: unknown): PlainError {
  const { code, message, fromPeer } = asGodwitError(error);
  return { code, message, fromPeer };
}

function revive({ code, message, fromPeer }: PlainError): GodwitError {
  return new GodwitError(code, message, { fromPeer });
}
