import { pathToFileURL } from 'node:url';
import { parentPort, workerData } from 'node:worker_threads';
import type { PolicyLimits, PrecopyStats } from '../stats.ts';

/** Main to worker: one consultation. */
export interface Question {
  readonly id: number;
  readonly stats: PrecopyStats;
  readonly limits: PolicyLimits;
}

/** Worker to main: the module is loaded or not, then one answer to each question. */
export type WorkerMessage =
  | { readonly type: 'ready' }
  | { readonly type: 'refused'; readonly why: string }
  | { readonly type: 'answer'; readonly id: number; readonly verdict: unknown }
  | { readonly type: 'threw'; readonly id: number; readonly why: string };

type PolicyFunction = (stats: PrecopyStats, limits: PolicyLimits) => unknown;

const port = parentPort!;
const { file } = workerData as { file: string };

const policy = await load();
if (policy !== undefined) {
  port.on('message', (question: Question) => void answer(policy, question));
  post({ type: 'ready' });
}

async function load(): Promise<PolicyFunction | undefined> {
  try {
    const module = await import(pathToFileURL(file).href);
    const exported = module.policy ?? module.default;
    if (typeof exported === 'function') return exported;
    post({ type: 'refused', why: 'it exports no function named policy and none as default' });
  } catch (error) {
    post({ type: 'refused', why: messageOf(error) });
  }
  return undefined;
}

async function answer(policy: PolicyFunction, { id, stats, limits }: Question): Promise<void> {
  try {
    // Posting may throw too: an answer that cannot be cloned is as good as an exception.
    post({ type: 'answer', id, verdict: await policy(stats, limits) });
  } catch (error) {
    post({ type: 'threw', id, why: messageOf(error) });
  }
}

function post(message: WorkerMessage): void {
  port.postMessage(message);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
