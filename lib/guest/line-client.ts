import { randomUUID } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { type ErrorCode, GodwitError } from '../errors.ts';
import { poll } from '../poll.ts';
import { formatDuration } from '../units.ts';
import { LineSplitter } from './line-splitter.ts';
import { type ProcessIdentity, processBehind } from './process-identity.ts';

const QUEUE_POLL_MS = 20;

/** A protocol of one JSON object a line: QEMU's QMP, and the simulated VMM's like it. */
export interface LineProtocol {
  readonly name: string;
  /** The key by which a greeting is known. */
  readonly greeting: string;
  /** Who speaks it, as it stands in errors: `QEMU`. */
  readonly server: string;
  /** What its path is: `QMP socket`. */
  readonly socket: string;
  readonly maxLineBytes: number;
  /** The error for a command that the server has refused. */
  readonly refusal: (command: string, error: unknown) => GodwitError;
}

/** How long a server may take, ms; each is `not-seen` when it is over. */
export interface LineLimits {
  readonly greetingMs: number;
  readonly commandMs: number;
}

/** The time is the server's: its host's real-time clock. */
export interface LineEvent {
  readonly event: string;
  readonly data?: Readonly<Record<string, unknown>>;
  readonly timestamp: { readonly seconds: number; readonly microseconds: number };
}

export type LineEventListener = (event: LineEvent) => void;

/** A command that the server has answered with an error: it was not executed. */
export class CommandRefused extends GodwitError {}

interface Pending {
  readonly command: string;
  readonly timer: NodeJS.Timeout;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

export type Message = Readonly<Record<string, unknown>>;

/** A client of a server on a Unix socket that speaks JSON in lines: commands, answers and events. */
export class LineClient {
  readonly path: string;
  readonly #protocol: LineProtocol;
  readonly #socket: Socket;
  readonly #limits: LineLimits;
  readonly #greeting = Promise.withResolvers<Message>();
  /** By ids that no other client has used: the server may send what an earlier one has not waited for. */
  readonly #pending = new Map<string, Pending>();
  readonly #session = randomUUID();
  readonly #listeners = new Map<string, Set<LineEventListener>>();
  readonly #closeListeners: ((error: GodwitError) => void)[] = [];
  #greeted = false;
  #lastId = 0;
  /** Why nothing can be executed any more. */
  #ended: GodwitError | undefined;
  #closedHere = false;

  /** Over a socket of `openInTime`. */
  protected constructor(socket: Socket, path: string, protocol: LineProtocol, limits: LineLimits) {
    this.#socket = socket;
    this.path = path;
    this.#protocol = protocol;
    this.#limits = limits;
    this.#greeting.promise.catch(() => {}); // may fail before anyone waits for it
    const splitter = new LineSplitter(protocol.maxLineBytes);
    socket.on('error', () => {}); // 'close' follows
    socket.on('close', () => this.#end(this.#lost()));
    socket.on('data', (chunk: Buffer) => this.#push(splitter, chunk));
  }

  /**
   * Executes a command.
   * @param limitMs for one that takes longer than others
   * @throws CommandRefused with the server's own words; GodwitError not-seen when it does not answer in
   *   time, hypervisor-failed when it answers nonsense, guest-died when it goes away before it answers
   */
  execute<Result = unknown>(
    command: string,
    given: object = {},
    limitMs = this.#limits.commandMs,
  ): Promise<Result> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const id = `${this.#session}/${++this.#lastId}`;
    const late = () => {
      this.#take(id);
      const why = `did not answer ${command} within ${formatDuration(limitMs)}`;
      reject(this.failure(why, 'not-seen'));
    };
    this.#pending.set(id, { command, timer: setTimeout(late, limitMs), resolve, reject });
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: given, id })}\n`);
    return promise as Promise<Result>;
  }

  /** Executes a command after which the server ends; that end is then no surprise to `onClose`. */
  executeLast(command: string, given: Record<string, unknown> = {}): Promise<unknown> {
    this.#closeListeners.length = 0;
    return this.execute(command, given);
  }

  /**
   * Calls the listener for each event of this name from now on. What happened before the connection
   * is not told again: ask for the state after listening. @returns a function that stops it
   */
  on(event: string, listener: LineEventListener): () => void {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  /**
   * Called once when the connection ends by itself: guest-died when the server closed it,
   * hypervisor-failed when it spoke nonsense.
   */
  onClose(listener: (error: GodwitError) => void): void {
    const ended = this.#ended;
    if (ended === undefined) this.#closeListeners.push(listener);
    else if (!this.#closedHere) queueMicrotask(() => listener(ended));
  }

  /** The process that serves this client. @throws GodwitError hypervisor-failed when it is not to be found */
  async process(): Promise<ProcessIdentity> {
    const process = await processBehind(this.#socket).catch((cause: Error) => {
      throw this.failure(`is served by somebody unknown: ss of iproute2: ${cause.message}`);
    });
    if (process !== undefined) return process;
    throw this.failure('is served by a process that is not to be found');
  }

  /** Leaves the server to another client. */
  close(): void {
    this.#closedHere ||= this.#ended === undefined;
    this.#closeListeners.length = 0;
    this.#end(this.failure('was closed by this agent'));
  }

  /** What the server says first. @throws GodwitError not-seen when it says nothing in time */
  protected async greeting(why: string): Promise<Message> {
    const limitMs = this.#limits.greetingMs;
    const late = `sent no greeting within ${formatDuration(limitMs)}${why}`;
    const timer = setTimeout(() => this.#end(this.failure(late, 'not-seen')), limitMs);
    return this.#greeting.promise.finally(() => clearTimeout(timer));
  }

  protected failure(what: string, code: ErrorCode = 'hypervisor-failed'): GodwitError {
    return new GodwitError(code, `${this.#protocol.socket} ${this.path} ${what}`);
  }

  #push(splitter: LineSplitter, chunk: Buffer): void {
    let lines: string[];
    try {
      lines = splitter.push(chunk);
    } catch (error) {
      return this.#end(this.#nonsense((error as Error).message));
    }
    for (const line of lines) if (this.#ended === undefined) this.#receive(line);
  }

  #receive(line: string): void {
    const message = parseMessage(line);
    if (message === undefined) this.#end(this.#nonsense(shown(line)));
    else if (this.#protocol.greeting in message) this.#greet(message);
    else if ('return' in message || 'error' in message) this.#settle(message);
    else if (isEvent(message)) this.#emit(message);
    else this.#end(this.#nonsense(shown(line)));
  }

  /** QEMU greets twice where an earlier client has left before it was greeted. */
  #greet(message: Message): void {
    this.#greeted = true;
    this.#greeting.resolve(message);
  }

  #emit(event: LineEvent): void {
    for (const listener of [...(this.#listeners.get(event.event) ?? [])]) listener(event);
  }

  /** An answer that nobody waits for came too late, or is for an earlier client, and is dropped. */
  #settle({ id, error, return: result }: Message): void {
    const waiting = this.#take(id as string);
    if (waiting === undefined) return;
    if (error === undefined) waiting.resolve(result);
    else waiting.reject(this.#protocol.refusal(waiting.command, error));
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
    const { server, socket } = this.#protocol;
    if (!this.#greeted) return this.failure(`was closed before ${server} had greeted`);
    const text = `${server} is gone: it closed its ${socket} ${this.path}`;
    return new GodwitError('guest-died', text);
  }

  #nonsense(what: string): GodwitError {
    return this.failure(`speaks no ${this.#protocol.name}: ${what}`);
  }
}

/**
 * A connection to a server's socket; its queue is short, and full while it is busy with clients that
 * have come and gone.
 * @throws GodwitError hypervisor-failed when nobody listens there, not-seen when it has no room in time
 */
export async function openInTime(
  path: string,
  { socket: what, server }: LineProtocol,
  limitMs: number,
): Promise<Socket> {
  let full: unknown;
  const socket = await poll(limitMs, QUEUE_POLL_MS, async () => {
    try {
      return await open(path);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'EAGAIN')
        throw new GodwitError('hypervisor-failed', `${what} ${path} ${whyNot(cause, server)}`, {
          cause,
        });
      full = cause;
      return undefined;
    }
  });
  if (socket !== undefined) return socket;
  const text = `${what} ${path} is busy: another client holds it and others wait for it`;
  throw new GodwitError('not-seen', text, { cause: full });
}

function whyNot(cause: unknown, server: string): string {
  const { code, message } = cause as NodeJS.ErrnoException;
  if (code === 'ENOENT') return `does not exist: is ${server} running?`;
  if (code === 'ECONNREFUSED') return `has nobody listening: ${server} is not running`;
  if (code === 'EACCES') return 'may not be opened by this user';
  return `cannot be opened: ${message}`;
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

function isEvent(message: Message): message is Message & LineEvent {
  return typeof message.event === 'string' && typeof message.timestamp === 'object';
}

/** The beginning of what was received, fit to stand in an error. */
export function shown(text: string): string {
  return JSON.stringify(text.slice(0, 80));
}
