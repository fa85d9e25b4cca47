import { once } from 'node:events';
import fs from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';

export interface ConsoleLine {
  readonly text: string;
  /** When it was complete here, on the host's monotonic clock (`performance.now()`), in ms. */
  readonly at: number;
}

export interface LineOptions {
  readonly from?: number | undefined;
  readonly count?: number;
}

/** Only a guest that hangs reaches it: what takes seconds on an idle host has taken a minute on a busy one. */
const LINE_BOUND_MS = 180_000;

/**
 * The far end of a guest's serial console: a Unix socket to which QEMU connects, so nothing that the guest
 * says is lost, and each line has the time of its arrival.
 */
export class SerialConsole {
  readonly path: string;
  readonly lines: ConsoleLine[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #waiting = new Set<() => void>();
  /** The console from which the guest comes: a line may begin there and end here. */
  readonly #origin: SerialConsole | undefined;
  /** Of the QEMU that has spoken last. */
  #unfinished = '';

  /** @param origin the console of the guest at its source, for that of its destination */
  static async listen(path: string, origin?: SerialConsole): Promise<SerialConsole> {
    const console = new SerialConsole(path, origin);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    console.#server.once('error', reject).listen(path, resolve);
    await promise;
    return console;
  }

  private constructor(path: string, origin: SerialConsole | undefined) {
    this.path = path;
    this.#origin = origin;
    this.#server = createServer((socket) => this.#accept(socket));
  }

  /**
   * The first line that matches, or the `count`th, from that index in `lines` on; from now on if not given.
   * @throws Error with what the console showed instead, after a bound that only a broken guest reaches
   */
  async line(pattern: RegExp, { from, count = 1 }: LineOptions = {}): Promise<ConsoleLine> {
    const end = performance.now() + LINE_BOUND_MS;
    let found = 0;
    for (let index = from ?? this.lines.length; ; index++) {
      while (index >= this.lines.length) await this.#more(pattern, end);
      const line = this.lines[index]!;
      if (pattern.test(line.text) && ++found === count) return line;
    }
  }

  /** Forgets a guest that is gone, once its QEMU has said its last. */
  async forget(): Promise<void> {
    await Promise.all([...this.#sockets].map((socket) => once(socket, 'close')));
    this.lines.splice(0);
    this.#unfinished = '';
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await this.#server[Symbol.asyncDispose]();
    fs.rmSync(this.path, { force: true });
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    socket.setEncoding('latin1');
    // Each QEMU goes on where its guest has been, not where the one before it on this console was.
    socket.once('data', () => {
      this.#unfinished = this.#origin?.takeUnfinished() ?? '';
    });
    socket.on('data', (text: string) => this.#receive(text));
    socket.on('error', () => {}); // QEMU was killed
    socket.on('close', () => this.#sockets.delete(socket));
  }

  #receive(text: string): void {
    const at = performance.now();
    const parts = (this.#unfinished + text).split('\n');
    this.#unfinished = parts.pop()!;
    for (const part of parts) this.lines.push({ text: part.replaceAll('\r', ''), at });
    if (parts.length > 0) for (const wake of this.#waiting) wake();
  }

  /** The beginning of a line that ends on another console. */
  takeUnfinished(): string {
    const begun = this.#unfinished;
    this.#unfinished = '';
    return begun;
  }

  async #more(pattern: RegExp, end: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, Math.max(0, end - performance.now()));
    this.#waiting.add(resolve);
    await promise;
    clearTimeout(timer);
    this.#waiting.delete(resolve);
    if (performance.now() < end) return;
    const last = this.lines.slice(-20).map((line) => line.text);
    throw new Error(`the guest said no ${pattern} but\n${last.join('\n')}`);
  }
}
