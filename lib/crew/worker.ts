import assert from 'node:assert/strict';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { parentPort, workerData } from 'node:worker_threads';
import { GodwitError } from '../errors.ts';
import { type Begin, type FromWorker, plain, type Running, type ToWorker } from './task.ts';

/*
 * A worker: carries any number of tasks, of the migrations of an agent, and outlives them. The modules
 * of its tasks are loaded before it says that it has started.
 */

/** Sockets of tasks that have ended linger for a second. */
const IDLE_MS = 1500;

type AnyTask = Running<Record<string, { argument: unknown; answer: unknown }>>;

assert(parentPort, 'runs as a worker thread');
const port = parentPort;
const say = (message: FromWorker) => port.postMessage(message);
const tasks = new Map<number, Promise<AnyTask>>();

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
const idle = setTimeout(collectWhenIdle, IDLE_MS);

for (const module of workerData as readonly string[]) await import(module);
port.on('message', (message: ToWorker) => {
  const { task } = message;
  if ('module' in message) {
    const running = begin(task, message.module, message.data);
    running.catch(() => {}); // who asks it for something hears of it
    tasks.set(task, running);
  } else if ('ends' in message) void answer(task, message.ends, () => end(task));
  else void answer(task, message.id, () => ask(task, message.type, message.argument));
});
say('started');

async function begin(task: number, module: string, data: unknown): Promise<AnyTask> {
  const fail = (error: unknown) => {
    if (tasks.has(task)) say({ task, failed: plain(error) });
  };
  try {
    const loaded = (await import(module)) as { begin: Begin<unknown, never> };
    return loaded.begin(data, fail);
  } catch (error) {
    fail(error);
    throw error;
  }
}

async function ask(task: number, type: string, argument: unknown): Promise<unknown> {
  const running = await tasks.get(task);
  if (running === undefined) throw new GodwitError('cancelled', 'the task has ended');
  return running.handlers[type]!(argument);
}

async function end(task: number): Promise<void> {
  const running = await tasks.get(task)?.catch(() => undefined);
  tasks.delete(task);
  await running?.close();
  if (tasks.size === 0) idle.refresh();
}

/**
 * A thread that does nothing collects no garbage either, and shared memory is only free when no thread
 * has it in its garbage.
 */
function collectWhenIdle(): void {
  if (tasks.size === 0) collect();
}

async function answer(task: number, id: number, work: () => Promise<unknown>): Promise<void> {
  try {
    say({ task, id, answer: await work() });
  } catch (error) {
    say({ task, id, error: plain(error) });
  }
}
