import { randomUUID } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { GodwitError } from '../../errors.ts';
import { formatDuration } from '../../units.ts';
import { LineSplitter } from '../simulated/line-splitter.ts';

/** The longest answer, that to query-qmp-schema, has a quarter of a MiB in QEMU 10. */
const MAX_LINE_BYTES = 4 << 20;
/** QEMU greets as soon as its main loop turns, unless another client has the monitor. */
const GREETING_LIMIT_MS = 5_000;
/** QEMU answers in milliseconds; its main loop may stand still while devices stop and are saved. */
const COMMAND_LIMIT_MS = 10_000;
const QUEUE_POLL_MS = 20;

export interface QmpOptions {
  readonly greetingLimitMs?: number;
  readonly commandLimitMs?: number;
  readonly maxLineBytes?: number;
}

/** The time is QEMU's: its host's real-time clock. */
export interface QmpEvent {
  readonly event: string;
  readonly data?: Readonly<Record<string, unknown>>;
  readonly timestamp: { readonly seconds: number; readonly microseconds: number };
}

export type QmpEventListener = (event: QmpEvent) => void;

interface Pending {
  readonly command: string;
  readonly timer: NodeJS.Timeout;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

type Message = Readonly<Record<string, unknown>>;

/**
 * A client of QEMU's monitor (QMP: one JSON object a line, `docs/interop/qmp-spec.rst` of QEMU).
 * QEMU serves one client of a monitor at a time; this one holds it until `close`.
 */
export class QmpClient {
  readonly path: string;
  readonly #socket: Socket;
  readonly #limitMs: number;
  readonly #greeting = Promise.withResolvers<Message>();
  /** By ids that no other client has used: QEMU may send what an earlier one has not waited for. */
  readonly #pending = new Map<string, Pending>();
  readonly #session = randomUUID();
  readonly #listeners = new Map<string, Set<QmpEventListener>>();
  readonly #closeListeners: ((error: GodwitError) => void)[] = [];
  #greeted = false;
  #version = '';
  #lastId = 0;
  /** Why nothing can be executed any more. */
  #ended: GodwitError | undefined;
  #closedHere = false;

  /**
   * Connects and negotiates.
   * @throws GodwitError hypervisor-failed: nobody listens, no greeting, or none that QEMU would send
   */
  static async connect(path: string, options: QmpOptions = {}): Promise<QmpClient> {
    const limitMs = options.greetingLimitMs ?? GREETING_LIMIT_MS;
    const client = new QmpClient(await openInTime(path, limitMs), path, options);
    try {
      await client.#negotiate(limitMs);
    } catch (error) {
      client.close();
      throw error;
    }
    return client;
  }

  private constructor(socket: Socket, path: string, options: QmpOptions) {
    this.#socket = socket;
    this.path = path;
    this.#limitMs = options.commandLimitMs ?? COMMAND_LIMIT_MS;
    this.#greeting.promise.catch(() => {}); // may fail before anyone waits for it
    const splitter = new LineSplitter(options.maxLineBytes ?? MAX_LINE_BYTES);
    socket.on('error', () => {}); // 'close' follows
    socket.on('close', () => this.#end(this.#lost()));
    socket.on('data', (chunk: Buffer) => this.#push(splitter, chunk));
  }

  /** QEMU's, as in `10.0.2`. */
  get version(): string {
    return this.#version;
  }

  /**
   * Executes a command.
   * @throws GodwitError hypervisor-failed with QEMU's own words when it refuses, or when it does not
   *   answer in time or answers nonsense; guest-died when QEMU goes away before it answers
   */
  execute<Result = unknown>(command: string, given: object = {}): Promise<Result> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const id = `${this.#session}/${++this.#lastId}`;
    const timer = setTimeout(() => this.#giveUp(id), this.#limitMs);
    this.#pending.set(id, { command, timer, resolve, reject });
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: given, id })}\n`);
    return promise as Promise<Result>;
  }

  /** Executes a command after which QEMU ends; that end is then no surprise to `onClose`. */
  executeLast(command: string): Promise<unknown> {
    this.#closeListeners.length = 0;
    return this.execute(command);
  }

  /**
   * Calls the listener for each event of this name from now on. What happened before the connection
   * is not told again: ask for the state after listening. @returns a function that stops it
   */
  on(event: string, listener: QmpEventListener): () => void {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  /**
   * Called once when the monitor goes away by itself: guest-died when QEMU closed it,
   * hypervisor-failed when it spoke nonsense.
   */
  onClose(listener: (error: GodwitError) => void): void {
    const ended = this.#ended;
    if (ended === undefined) this.#closeListeners.push(listener);
    else if (!this.#closedHere) queueMicrotask(() => listener(ended));
  }

  /** Leaves the monitor to another client. */
  close(): void {
    this.#closedHere ||= this.#ended === undefined;
    this.#closeListeners.length = 0;
    this.#end(this.#failure('was closed by this agent'));
  }

  async #negotiate(limitMs: number): Promise<void> {
    const late = `sent no greeting within ${formatDuration(limitMs)}: another client may hold the monitor`;
    const timer = setTimeout(() => this.#end(this.#failure(late)), limitMs);
    const greeting = await this.#greeting.promise.finally(() => clearTimeout(timer));
    const version = versionOf(greeting);
    if (version === undefined)
      throw this.#failure(`did not greet as QEMU does: ${shown(JSON.stringify(greeting))}`);
    await this.execute('qmp_capabilities');
    this.#version = version;
  }

  #push(splitter: LineSplitter, chunk: Buffer): void {
    let lines: string[];
    try {
      lines = splitter.push(chunk);
    } catch (error) {
      return this.#end(this.#failure(`speaks no QMP: ${(error as Error).message}`));
    }
    for (const line of lines) if (this.#ended === undefined) this.#receive(line);
  }

  #receive(line: string): void {
    const message = parseMessage(line);
    if (message === undefined) this.#end(this.#failure(`speaks no QMP: ${shown(line)}`));
    else if ('QMP' in message) this.#greet(message);
    else if ('return' in message || 'error' in message) this.#settle(message);
    else if (isEvent(message)) this.#emit(message);
    else this.#end(this.#failure(`speaks no QMP: ${shown(line)}`));
  }

  /** QEMU greets twice where an earlier client has left before it was greeted. */
  #greet(message: Message): void {
    this.#greeted = true;
    this.#greeting.resolve(message);
  }

  #emit(event: QmpEvent): void {
    for (const listener of [...(this.#listeners.get(event.event) ?? [])]) listener(event);
  }

  /** An answer that nobody waits for came too late, or is for an earlier client, and is dropped. */
  #settle({ id, error, return: result }: Message): void {
    const waiting = this.#take(id as string);
    if (waiting === undefined) return;
    if (error === undefined) return waiting.resolve(result);
    const words = (error as { desc?: string } | null)?.desc ?? JSON.stringify(error);
    const text = `QEMU refused ${waiting.command}: ${words}`;
    waiting.reject(new GodwitError('hypervisor-failed', text, { cause: error }));
  }

  #giveUp(id: string): void {
    const { command, reject } = this.#take(id)!;
    reject(this.#failure(`did not answer ${command} within ${formatDuration(this.#limitMs)}`));
  }

  #take(id: string): Pending | undefined {
    const pending = this.#pending.get(id);
    clearTimeout(pending?.timer);
    this.#pending.delete(id);
    return pending;
  }

  /** The first reason stays. */
  #end(reason: GodwitError): void {
    if (this.#ended !== undefined) return;
    this.#ended = reason;
    this.#socket.destroy();
    this.#greeting.reject(reason);
    for (const id of [...this.#pending.keys()]) this.#take(id)!.reject(reason);
    for (const listener of this.#closeListeners.splice(0)) listener(reason);
  }

  #lost(): GodwitError {
    if (!this.#greeted) return this.#failure('was closed before QEMU had greeted');
    return new GodwitError('guest-died', `QEMU is gone: it closed its monitor ${this.path}`);
  }

  #failure(what: string): GodwitError {
    return new GodwitError('hypervisor-failed', `QMP socket ${this.path} ${what}`);
  }
}

const OPEN_TEXTS: Readonly<Record<string, string>> = {
  ENOENT: 'does not exist: is QEMU running?',
  ECONNREFUSED: 'has nobody listening: QEMU is not running',
  EACCES: 'may not be opened by this user',
  EAGAIN: 'is busy: another client holds the monitor and others wait for it',
};

/** QEMU's queue is short, and full while it is busy with clients that have come and gone. */
async function openInTime(path: string, limitMs: number): Promise<Socket> {
  for (const deadline = Date.now() + limitMs; ; await sleep(QUEUE_POLL_MS)) {
    try {
      return await open(path);
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code === 'EAGAIN' && Date.now() < deadline) continue;
      const why = OPEN_TEXTS[code ?? ''] ?? `cannot be opened: ${(cause as Error).message}`;
      throw new GodwitError('hypervisor-failed', `QMP socket ${path} ${why}`, { cause });
    }
  }
}

async function open(path: string): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const socket = connect(path, resolve);
  socket.once('error', reject);
  await promise;
  return socket;
}

function parseMessage(line: string): Message | undefined {
  try {
    const parsed: unknown = JSON.parse(line);
    const isObject = typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed);
    return isObject ? (parsed as Message) : undefined;
  } catch {
    return undefined;
  }
}

/** `{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, …}, …}}` */
function versionOf(greeting: Message): string | undefined {
  const { version } = (greeting.QMP ?? {}) as { version?: { qemu?: Record<string, unknown> } };
  const { major, minor, micro } = version?.qemu ?? {};
  const numbers = [major, minor, micro];
  return numbers.every(Number.isInteger) ? numbers.join('.') : undefined;
}

function isEvent(message: Message): message is Message & QmpEvent {
  return typeof message.event === 'string' && typeof message.timestamp === 'object';
}

/** The beginning of what was received, fit to stand in an error. */
function shown(text: string): string {
  return JSON.stringify(text.slice(0, 80));
}
