import { Worker } from 'node:worker_threads';
import { type ErrorCode, GodwitError } from '../errors.ts';
import { formatDuration } from '../units.ts';

/** What the thread answers. */
export type Rendered =
  | { readonly html: string }
  | { readonly code: ErrorCode; readonly message: string };

/** A ledger of days takes seconds; a disk that does not answer keeps nobody for ever, ms. */
const LIMIT_MS = 60_000;
/** Of JavaScript's heap, MiB: ledgers of weeks need a fraction of it. */
const HEAP_MIB = 512;

/**
 * Reports of ledgers, made by a thread for each: the ledger of a night takes longer than the main thread of
 * an agent may be kept from a guest that is suspended. One at a time, whoever asks.
 */
export class Reports {
  #last: Promise<unknown> = Promise.resolve();

  /** An HTML file. @throws GodwitError ledger-failed, also of one that takes too long; ledger-invalid */
  async render(ledger: string, limitMs = LIMIT_MS): Promise<string> {
    const mine = this.#last.then(() => inThread(ledger, limitMs));
    this.#last = mine.catch(() => {});
    const rendered = await mine;
    if ('html' in rendered) return rendered.html;
    throw new GodwitError(rendered.code, rendered.message);
  }
}

async function inThread(ledger: string, limitMs: number): Promise<Rendered> {
  const { promise, resolve, reject } = Promise.withResolvers<Rendered>();
  const worker = new Worker(new URL('report-worker.ts', import.meta.url), {
    workerData: ledger,
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB },
  });
  worker.once('message', resolve);
  worker.once('error', reject);
  worker.once('exit', (code) => reject(new Error(`the thread ended with ${code}`)));
  const limit = setTimeout(() => {
    const text = `it is not made within ${formatDuration(limitMs)}; "agent-send report" takes its time`;
    reject(new GodwitError('ledger-failed', text));
  }, limitMs);
  return promise.finally(() => {
    clearTimeout(limit);
    void worker.terminate(); // one that waits for a disk ends when that answers
  });
}
