import os from 'node:os';
import { Worker } from 'node:worker_threads';
import { asGodwitError, GodwitError } from '../errors.ts';
import { log } from '../log.ts';
import { within } from '../poll.ts';
import { type FromWorker, type Requests, revive, type ToWorker } from './task.ts';

/**
 * Young: the compressor leaves a buffer of up to a chunk per batch to the garbage collector, which frees
 * it with the small objects of the same batch, and a small young generation keeps few of them waiting.
 * Old: what tasks keep in objects is small, their tables and buffers are outside of the heap; a
 * worker that needs more than this is ill, and ends before the host feels it.
 */
const WORKER_LIMITS = { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 256 };

/** Time for a thread to start, and for a task or a thread to end, ms: all take a fraction of a second. */
const START_MS = 60_000;
const STOP_MS = 10_000;
/** Workers of an agent: one for each core that it can be worth having, and two for the wait of one. */
const FEWEST = 2;
const MOST = 8;

/** Workers for the lanes and streams of all migrations of an agent on this host. */
export function crewSize(): number {
  return Math.min(MOST, Math.max(FEWEST, os.availableParallelism()));
}

/** A lane, or a stream from or to a hypervisor: begun by one migration, carried by a worker. */
export interface Task<R extends Requests> {
  /** Few and small: once a round, not once a batch. @throws GodwitError what the task has thrown, or why it ended */
  request<K extends keyof R & string>(type: K, argument: R[K]['argument']): Promise<R[K]['answer']>;
  /** Ends it; resolves when it has let go of everything. What is asked and not answered is rejected. */
  stop(): Promise<void>;
}

/** Whatever it can be asked. */
export type AnyTask = Pick<Task<Requests>, 'stop'>;

/**
 * The worker threads of an agent: they are there before a migration begins, carry the tasks of all of
 * them, and outlive them. A worker that ends fails the tasks in it, and another takes its place.
 */
export class Crew {
  readonly #modules: readonly string[];
  readonly #threads: Thread[];
  #lastTask = 0;
  #stopped = false;

  /** @param modules of the tasks that will be begun: each worker loads them before it has started */
  constructor(workers: number, modules: readonly URL[]) {
    this.#modules = modules.map(({ href }) => href);
    this.#threads = Array.from({ length: workers }, (_, place) => this.#start(place));
  }

  /** Resolves when all workers take tasks. @throws GodwitError internal */
  async started(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.started()));
  }

  /**
   * Begins a task in the worker that has the fewest: the lanes of a migration are spread over all of them.
   * One that is to be `beside` another is in its worker, as long as that has not ended.
   * @param module exports `begin` (a `Begin`)
   * @param data is copied into the worker, but for shared memory
   * @param onFailure called at most once, before `stop` was: the task has failed, or its worker has ended
   */
  begin<R extends Requests>(
    module: URL,
    data: unknown,
    onFailure: (error: GodwitError) => void,
    beside?: AnyTask,
  ): Task<R> {
    if (this.#stopped) throw new GodwitError('shutting-down', 'the agent is shutting down');
    const least = this.#threads.reduce((least, other) =>
      other.tasks.size < least.tasks.size ? other : least,
    );
    const thread = (beside && this.#threads.find(({ tasks }) => carries(tasks, beside))) ?? least;
    return thread.begin(++this.#lastTask, module.href, data, onFailure);
  }

  /** Ends the threads, whatever they do. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#threads.map((thread) => thread.stop()));
  }

  #start(place: number): Thread {
    return new Thread(this.#modules, (thread, error) => {
      if (this.#stopped) return;
      log('error', error.message);
      // One that cannot even start would be replaced for ever: what is begun in it fails.
      if (thread.hasStarted) this.#threads[place] = this.#start(place);
    });
  }
}

function carries(tasks: ReadonlyMap<number, AnyTask>, task: AnyTask): boolean {
  return tasks.values().some((one) => one === task);
}

/** One worker, as the main thread has it. */
class Thread {
  readonly tasks = new Map<number, MainTask>();
  readonly #worker: Worker;
  readonly #started = Promise.withResolvers<void>();
  readonly #onDeath: (thread: Thread, error: GodwitError) => void;
  hasStarted = false;
  #death: GodwitError | undefined;

  constructor(modules: readonly string[], onDeath: (thread: Thread, error: GodwitError) => void) {
    this.#onDeath = onDeath;
    this.#started.promise.catch(() => {}); // not everybody waits for it
    const entry = new URL('./worker.ts', import.meta.url);
    this.#worker = new Worker(entry, { workerData: modules, resourceLimits: WORKER_LIMITS });
    this.#worker.on('message', (message: FromWorker) => this.#hear(message));
    this.#worker.on('error', (cause) => this.#die(asGodwitError(cause).message, cause));
    this.#worker.on('exit', (code) => this.#die(`it ended by itself (code ${code})`));
  }

  started(): Promise<void> {
    const text = `a worker thread did not start within ${START_MS} ms: is the host overloaded?`;
    return within(START_MS, this.#started.promise, () => new GodwitError('internal', text));
  }

  begin<R extends Requests>(
    task: number,
    module: string,
    data: unknown,
    onFailure: (error: GodwitError) => void,
  ): Task<R> {
    const begun = new MainTask(
      (message) => this.#say({ task, ...message }),
      onFailure,
      () => this.tasks.delete(task),
    );
    this.tasks.set(task, begun);
    if (this.#death === undefined) this.#say({ task, module, data });
    else queueMicrotask(() => begun.lose(this.#death!));
    return begun as Task<R>;
  }

  async stop(): Promise<void> {
    this.#death ??= new GodwitError('cancelled', 'the worker was stopped');
    for (const task of this.tasks.values()) task.gone(this.#death);
    this.#started.reject(this.#death);
    await inTime('a worker thread', this.#worker.terminate());
  }

  #say(message: ToWorker): void {
    this.#worker.postMessage(message);
  }

  #hear(message: FromWorker): void {
    if (message === 'started') {
      this.hasStarted = true;
      this.#started.resolve();
    } else this.tasks.get(message.task)?.hear(message);
  }

  #die(why: string, cause?: unknown): void {
    if (this.#death) return;
    const text = `a worker thread of the agent is gone, and with it the migrations that had a task in it: ${why}`;
    this.#death = new GodwitError('internal', text, { cause });
    this.#started.reject(this.#death);
    this.#onDeath(this, this.#death);
    for (const task of this.tasks.values()) task.lose(this.#death);
    this.tasks.clear();
  }
}

type ToTask = { module: string; data: unknown } | { ends: number } | AskTask;
type AskTask = { id: number; type: string; argument: unknown };

/** One task, as the main thread has it. */
class MainTask implements Task<Requests> {
  readonly #say: (message: ToTask) => void;
  readonly #onFailure: (error: GodwitError) => void;
  readonly #onEnd: () => void;
  readonly #pending = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #ended = Promise.withResolvers<void>();
  #lastId = 0;
  #failure: GodwitError | undefined;
  #stopping: Promise<void> | undefined;

  constructor(
    say: (message: ToTask) => void,
    onFailure: (error: GodwitError) => void,
    onEnd: () => void,
  ) {
    this.#say = say;
    this.#onFailure = onFailure;
    this.#onEnd = onEnd;
  }

  request(type: string, argument: unknown): Promise<unknown> {
    if (this.#failure) return Promise.reject(this.#failure);
    return this.#ask((id) => ({ id, type, argument }));
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  /** Its worker has died. */
  lose(error: GodwitError): void {
    this.#fail(error);
    this.gone(error);
  }

  #fail(error: GodwitError): void {
    if (this.#failure) return;
    this.#drop(error);
    this.#onFailure(error);
  }

  /** Its worker has ended: nobody answers any more. */
  gone(error: GodwitError): void {
    this.#ended.resolve();
    this.#drop(error);
  }

  hear(message: Exclude<FromWorker, 'started'>): void {
    if ('failed' in message) return this.#fail(revive(message.failed));
    const waiting = this.#pending.get(message.id);
    if (!waiting) return;
    this.#pending.delete(message.id);
    if ('error' in message) waiting.reject(revive(message.error));
    else waiting.resolve(message.answer);
  }

  async #stop(): Promise<void> {
    this.#drop(new GodwitError('cancelled', 'the task was stopped'));
    const ending = this.#ask((ends) => ({ ends })).then(() => {});
    await inTime('a task of a migration', Promise.race([ending, this.#ended.promise]));
    this.#onEnd();
  }

  #drop(error: GodwitError): void {
    this.#failure ??= error;
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }

  #ask(message: (id: number) => ToTask): Promise<unknown> {
    const id = this.#lastId++;
    const answered = Promise.withResolvers<unknown>();
    this.#pending.set(id, answered);
    this.#say(message(id));
    return answered.promise;
  }
}

/** Waits for an end as long as ends take; a later one is only told of. */
async function inTime(what: string, ending: Promise<unknown>): Promise<void> {
  const late = () => new GodwitError('internal', `${what} did not end within ${STOP_MS} ms`);
  await within(STOP_MS, ending, late).catch((error) => {
    if (asGodwitError(error).code !== 'cancelled') log('error', asGodwitError(error).message);
  });
}
