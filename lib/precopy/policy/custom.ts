import { stat } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import { GodwitError } from '../../errors.ts';
import { formatDuration } from '../../units.ts';
import { isHeld } from '../hold.ts';
import type { Consult, OpenPolicy } from '../loop.ts';
import type { PolicyLimits, PrecopyStats, Verdict } from '../stats.ts';
import { contractPolicy } from './contract.ts';
import type { Question, WorkerMessage } from './custom-worker.ts';

/** Time limits, ms. */
export interface CustomPolicyTimes {
  /** One consultation. The guest dirties pages meanwhile, so it must stay far below a round. */
  readonly consultMs: number;
  /** Loading the module, imports included. */
  readonly startMs: number;
}

const DEFAULT_TIMES: CustomPolicyTimes = { consultMs: 100, startMs: 5000 };
/** Workers that may be lost to hanging or exiting before the module is not asked any more. */
const MAX_LOST_WORKERS = 3;
/** A policy looks at a few kilobytes of numbers; more than this is a leak. */
const MAX_HEAP_MB = 64;
const MAX_REASON = 500;
const ACTIONS: readonly string[] = ['continue', 'hold', 'stop-and-copy', 'abort'];

/**
 * Loads an operator's policy module into a worker of its own: a module that throws, hangs, exits or
 * answers nonsense costs the migration nothing, because the contract policy decides in its place
 * and `problem` says why. The module is the operator's code and is not confined otherwise.
 *
 * @param file absolute path of an ES module that exports `policy(stats, limits)`, by name or default
 * @throws GodwitError bad-option when the file does not exist or has no such function
 */
export async function openCustomPolicy(
  file: string,
  times: CustomPolicyTimes = DEFAULT_TIMES,
): Promise<OpenPolicy> {
  const refuse = (why: string, cause?: unknown) =>
    new GodwitError('bad-option', `--policy-module ${file} cannot be used: ${why}`, { cause });
  const found = await stat(file).catch((error) => {
    throw refuse('the file cannot be read', error);
  });
  if (!found.isFile()) throw refuse('it is not a file');
  const first = new PolicyWorker(file, times.startMs);
  const why = await first.loaded;
  if (why !== undefined) {
    await first.close();
    throw refuse(why);
  }
  return new WorkerPolicy(file, times, first);
}

class WorkerPolicy implements OpenPolicy {
  readonly #file: string;
  readonly #times: CustomPolicyTimes;
  #worker: PolicyWorker | undefined;
  #lost = 0;
  #closed = false;

  constructor(file: string, times: CustomPolicyTimes, worker: PolicyWorker) {
    this.#file = file;
    this.#times = times;
    this.#worker = worker;
  }

  readonly consult: Consult = async (stats, limits) => {
    const answer = await this.#ask(stats, limits);
    const breaksHold =
      'verdict' in answer && answer.verdict.action === 'stop-and-copy' && isHeld(stats);
    if ('verdict' in answer && !breaksHold) return { verdict: answer.verdict };
    const what = 'problem' in answer ? answer.problem : 'answered stop-and-copy for a held guest';
    const problem = `the policy module ${what}; the contract policy decided instead`;
    return { verdict: contractPolicy(stats, limits), problem };
  };

  async close(): Promise<void> {
    this.#closed = true;
    await this.#worker?.close();
  }

  async #ask(stats: PrecopyStats, limits: PolicyLimits): Promise<Answer> {
    const worker = this.#worker;
    if (worker === undefined) {
      return { problem: `is not asked any more, its worker was lost ${this.#lost} times` };
    }
    const { consultMs } = this.#times;
    const loading = () => 'it is being loaded again';
    const notReady = await within(worker.loaded, consultMs, loading);
    const answer: Answer =
      notReady === undefined
        ? await worker.ask(stats, limits, consultMs)
        : { problem: `cannot be asked: ${notReady}`, lost: worker.gone };
    if (answer.lost === true && !this.#closed) this.#replace(worker);
    return answer;
  }

  #replace(worker: PolicyWorker): void {
    void worker.close();
    this.#lost++;
    const again = this.#lost < MAX_LOST_WORKERS;
    this.#worker = again ? new PolicyWorker(this.#file, this.#times.startMs) : undefined;
  }
}

type Answer =
  | { readonly verdict: Verdict; readonly lost?: false }
  /** `lost`: the worker will never answer anything again. */
  | { readonly problem: string; readonly lost?: boolean };

class PolicyWorker {
  readonly #worker: Worker;
  readonly #loaded = Promise.withResolvers<string | undefined>();
  readonly #loadTimer: NodeJS.Timeout;
  #asked = 0;
  #pending: { readonly id: number; readonly resolve: (answer: Answer) => void } | undefined;
  #gone: string | undefined;

  constructor(file: string, startMs: number) {
    this.#worker = new Worker(new URL('./custom-worker.ts', import.meta.url), {
      workerData: { file },
      resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MB },
    });
    this.#worker.on('message', (message: WorkerMessage) => this.#onMessage(message));
    this.#worker.on('error', (error: Error) => this.#onGone(`failed: ${error.message}`));
    this.#worker.on('exit', () => this.#onGone('ended by itself'));
    const late = `did not load within ${formatDuration(startMs)}`;
    this.#loadTimer = setTimeout(() => this.#onGone(late), startMs);
  }

  /** True when it will never answer anything again. */
  get gone(): boolean {
    return this.#gone !== undefined;
  }

  /** Undefined once the module is loaded, else why it cannot be. */
  get loaded(): Promise<string | undefined> {
    return this.#loaded.promise;
  }

  ask(stats: PrecopyStats, limits: PolicyLimits, ms: number): Promise<Answer> {
    if (this.#gone !== undefined) return Promise.resolve({ problem: this.#gone, lost: true });
    const { promise, resolve } = Promise.withResolvers<Answer>();
    this.#pending = { id: ++this.#asked, resolve };
    this.#worker.postMessage({ id: this.#asked, stats, limits } satisfies Question);
    const problem = `did not answer within ${formatDuration(ms)}`;
    return within(promise, ms, () => ({ problem, lost: true }));
  }

  async close(): Promise<void> {
    clearTimeout(this.#loadTimer);
    await this.#worker.terminate();
  }

  #onMessage(message: WorkerMessage): void {
    if (message.type === 'ready') this.#onLoaded();
    else if (message.type === 'refused') this.#onGone(message.why);
    else if (message.id !== this.#pending?.id) return;
    else if (message.type === 'answer') this.#pending.resolve(read(message.verdict));
    else this.#pending.resolve({ problem: `threw "${message.why.slice(0, MAX_REASON)}"` });
  }

  #onLoaded(): void {
    clearTimeout(this.#loadTimer);
    this.#loaded.resolve(undefined);
  }

  #onGone(why: string): void {
    clearTimeout(this.#loadTimer);
    this.#gone ??= why;
    this.#loaded.resolve(this.#gone);
    this.#pending?.resolve({ problem: this.#gone, lost: true });
  }
}

/** A verdict from whatever a module has answered. */
function read(answer: unknown): Answer {
  if (typeof answer !== 'object' || answer === null) {
    return { problem: `answered ${answer === null ? 'null' : typeof answer}, not a verdict` };
  }
  const { action, reason } = answer as Record<string, unknown>;
  if (typeof action !== 'string' || !ACTIONS.includes(action)) {
    return { problem: `answered the unknown action ${show(action)}` };
  }
  if (typeof reason !== 'string' || reason === '') {
    return { problem: `answered ${action} without a reason` };
  }
  return {
    verdict: { action: action as Verdict['action'], reason: reason.slice(0, MAX_REASON) },
  };
}

function show(value: unknown): string {
  return (typeof value === 'string' ? JSON.stringify(value) : typeof value).slice(0, 50);
}

/** The work's result, or the stand-in when it takes too long. */
async function within<T>(work: Promise<T>, ms: number, standIn: () => T): Promise<T> {
  const late = Promise.withResolvers<T>();
  // When this thread was the late one, the answer waits in its queue: let it be read first.
  const timer = setTimeout(() => setImmediate(() => late.resolve(standIn())), ms);
  try {
    return await Promise.race([work, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
