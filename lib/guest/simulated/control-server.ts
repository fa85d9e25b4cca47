import { createServer, type Server, type Socket } from 'node:net';
import { asGodwitError, GodwitError } from '../../errors.ts';
import { projectVersion } from '../../version.ts';
import { LineSplitter } from '../line-splitter.ts';

/** Named arguments of a command, as they came: nothing is known of them yet. */
export type CommandArguments = Readonly<Record<string, unknown>>;
/** @param left aborts when the client that gave the command is gone */
export type Command = (given: CommandArguments, left: AbortSignal) => unknown;
export type Commands = Readonly<Record<string, Command>>;

/** A client that leaves this much unread is cut off. */
const MAX_UNREAD_BYTES = 64 * 2 ** 20;
const GREETING = { VMM: { version: projectVersion(), capabilities: [] } };

/**
 * The VMM's control socket: JSON in lines, as QEMU's QMP. Several clients may be connected; commands
 * are executed one at a time, in the order in which they arrive from any of them, so that one of a
 * client that has died is never executed after what came later.
 */
export class ControlServer {
  readonly #commands: Commands;
  readonly #server: Server;
  readonly #apart: ReadonlySet<string>;
  readonly #clients = new Set<Socket>();
  #last: Promise<unknown> = Promise.resolve();

  /** @param apart commands that wait for no other and keep none waiting */
  constructor(commands: Commands, apart: ReadonlySet<string>) {
    this.#commands = commands;
    this.#apart = apart;
    this.#server = createServer((socket) => void this.#serve(socket));
  }

  /** @throws GodwitError listen-failed */
  async listen(path: string): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.once('error', (cause) =>
      reject(
        new GodwitError('listen-failed', `cannot listen on ${path}: ${cause.message}`, { cause }),
      ),
    );
    this.#server.listen({ path, readableAll: false, writableAll: false }, resolve);
    await promise;
  }

  /** Tells every client of something that happened. */
  announce(event: string, data: Record<string, unknown> = {}): void {
    const now = Date.now();
    const timestamp = { seconds: Math.floor(now / 1000), microseconds: (now % 1000) * 1000 };
    for (const socket of this.#clients) send(socket, { event, data, timestamp });
  }

  /** Ends every connection after what was sent to it; the socket file goes away. */
  async close(): Promise<void> {
    this.#server.close();
    await Promise.all(
      [...this.#clients].map(
        (socket) => new Promise<void>((resolve) => socket.end(() => resolve())),
      ),
    );
  }

  async #serve(socket: Socket): Promise<void> {
    this.#clients.add(socket);
    const splitter = new LineSplitter();
    const leaving = new AbortController();
    try {
      send(socket, GREETING);
      for await (const chunk of socket) {
        const lines = splitter.push(chunk as Buffer).filter((line) => line.trim() !== '');
        const answer = async (line: string) =>
          send(socket, await this.#answer(line, leaving.signal));
        await Promise.all(lines.map(answer));
      }
    } catch (error) {
      // Too long a line, after which nothing can be trusted; or the client is gone.
      if (!socket.destroyed) socket.end(`${JSON.stringify(errorReply(error))}\n`);
    } finally {
      leaving.abort();
      this.#clients.delete(socket);
      socket.destroySoon();
    }
  }

  #inTurn<Result>(execute: () => Promise<Result>): Promise<Result> {
    const done = this.#last.then(execute);
    this.#last = done.catch(() => {});
    return done;
  }

  async #answer(line: string, left: AbortSignal): Promise<Record<string, unknown>> {
    let id: { id?: unknown } = {};
    try {
      const request = parseRequest(line);
      if ('id' in request) id = { id: request.id };
      const command = Object.hasOwn(this.#commands, request.execute)
        ? this.#commands[request.execute]
        : undefined;
      if (command === undefined)
        return { ...errorReply(`no command "${request.execute}"`, 'CommandNotFound'), ...id };
      const execute = async () => command(request.arguments, left);
      const result = this.#apart.has(request.execute) ? execute() : this.#inTurn(execute);
      return { return: (await result) ?? {}, ...id };
    } catch (error) {
      return { ...errorReply(error), ...id };
    }
  }
}

interface ControlRequest {
  readonly execute: string;
  readonly arguments: CommandArguments;
  readonly id?: unknown;
}

function parseRequest(line: string): ControlRequest {
  const refuse = (why: string) => new GodwitError('bad-message', `control request: ${why}`);
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw refuse('not JSON');
  }
  if (!isObject(value)) throw refuse('not an object');
  const { execute, arguments: given = {} } = value;
  if (typeof execute !== 'string') throw refuse('no "execute"');
  if (!isObject(given)) throw refuse('"arguments" is not an object');
  return 'id' in value
    ? { execute, arguments: given, id: value.id }
    : { execute, arguments: given };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function errorReply(error: unknown, kind?: string) {
  if (typeof error === 'string') return { error: { class: kind, desc: error } };
  const { code, message } = asGodwitError(error);
  return { error: { class: code, desc: message } };
}

function send(socket: Socket, message: unknown): void {
  if (!socket.writable) return;
  socket.write(`${JSON.stringify(message)}\n`);
  if (socket.writableLength > MAX_UNREAD_BYTES) socket.destroy();
}
