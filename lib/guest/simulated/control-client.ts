import { connect, type Socket } from 'node:net';
import { GodwitError } from '../../errors.ts';
import { LineSplitter } from './line-splitter.ts';

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** A connection to a VMM's control socket. */
export class ControlClient {
  readonly #socket: Socket;
  readonly #guest: string;
  readonly #pending = new Map<number, Pending>();
  readonly #closeListeners: (() => void)[] = [];
  #lastId = 0;
  #closedHere = false;

  /** @throws what connecting failed with */
  static async connect(path: string, guest: string): Promise<ControlClient> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const socket = connect(path, resolve);
    socket.once('error', reject);
    await promise;
    return new ControlClient(socket, guest);
  }

  private constructor(socket: Socket, guest: string) {
    this.#socket = socket;
    this.#guest = guest;
    const splitter = new LineSplitter();
    socket.on('error', () => {}); // 'close' follows
    socket.on('close', () => this.#fail());
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const line of splitter.push(chunk)) this.#receive(JSON.parse(line));
      } catch {
        socket.destroy();
      }
    });
  }

  /**
   * Executes a command.
   * @throws GodwitError with the VMM's own words, hypervisor-failed; guest-died when the connection
   *   ends before the answer
   */
  execute<Result = unknown>(command: string, given: Record<string, unknown> = {}): Promise<Result> {
    if (this.#socket.destroyed) return Promise.reject(this.#gone());
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const id = ++this.#lastId;
    this.#pending.set(id, { resolve, reject });
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: given, id })}\n`);
    return promise as Promise<Result>;
  }

  /** Called once when the connection ends, unless this side closed it. */
  onClose(listener: () => void): void {
    if (this.#socket.destroyed && !this.#closedHere) queueMicrotask(listener);
    else this.#closeListeners.push(listener);
  }

  /** Executes a command after which the VMM ends; that end is then no surprise to `onClose`. */
  executeLast(command: string): Promise<unknown> {
    this.#closeListeners.length = 0;
    return this.execute(command);
  }

  close(): void {
    this.#closedHere = true;
    this.#socket.destroy();
  }

  /** Greeting and events carry no id; an id that nobody waits for is dropped. */
  #receive(message: { id?: number; return?: unknown; error?: { class: string; desc: string } }) {
    const waiting = this.#pending.get(message.id ?? 0);
    if (waiting === undefined) return;
    this.#pending.delete(message.id ?? 0);
    if (message.error === undefined) waiting.resolve(message.return);
    else waiting.reject(errorOf(message.error, this.#guest));
  }

  #fail(): void {
    for (const { reject } of this.#pending.values()) reject(this.#gone());
    this.#pending.clear();
    if (!this.#closedHere) for (const listener of this.#closeListeners) listener();
    this.#closeListeners.length = 0;
  }

  #gone(): GodwitError {
    return this.#closedHere
      ? new GodwitError('hypervisor-failed', `the connection to guest ${this.#guest} is closed`)
      : new GodwitError('guest-died', `the VMM of guest ${this.#guest} is gone`);
  }
}

function errorOf({ class: kind, desc }: { class: string; desc: string }, guest: string) {
  const code =
    kind === 'device-state-invalid' || kind === 'bad-option' ? kind : 'hypervisor-failed';
  return new GodwitError(code, `guest ${guest}: ${desc}`);
}
