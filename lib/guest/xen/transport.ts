import { mkdirSync, rmSync } from 'node:fs';
import net from 'node:net';
import { dirname } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { GodwitError } from '../../errors.ts';
import { BANNER, DENIED, READY, RUNS } from '../../stream/xen/handshake.ts';
import { XenStreamParser, type XenStreamSink } from '../../stream/xen/parser.ts';
import { LineSplitter } from '../line-splitter.ts';
import { identify, looked, type ProcessIdentity } from '../process-identity.ts';
import { readConfig, type XenConfig } from './config.ts';
import {
  type HelperState,
  NO_HELPER,
  type Said,
  streamSocketOf,
  type TransportCommand,
} from './transport-protocol.ts';
import { helpersOf } from './xl-processes.ts';

/** Between two looks whether xl lives, ms. */
const WATCH_MS = 50;
/** xl ends in this time once its helper has, ms. */
const ABORT_LIMIT_MS = 20_000;

export interface TransportOptions {
  /** xl's stream, and what it hears: the pipes that it runs its transport with. */
  readonly input: Readable;
  readonly output: Writable;
  /** Ends the process: xl waits for that before it resumes the guest. */
  readonly exit: (code: number) => void;
}

/**
 * What xl runs in place of ssh: between xl and the daemon, which it outlives once xl was told `ready`. It
 * decides nothing but what the bytes demand: one of `runs` and `denied` is ever said, and a daemon that
 * goes away before `ready` leaves the guest to xl, which runs it on here.
 */
export class XlTransport {
  readonly #options: TransportOptions;
  readonly #xl: ProcessIdentity;
  readonly #clients = new Set<net.Socket>();
  readonly #servers: net.Server[] = [];
  #said: Said = 'banner';
  #config: XenConfig | undefined;
  #early: Buffer[] = [];
  #path: string | undefined;
  /** Nothing is wanted of xl any more. */
  #drains = false;
  #isTaken = false;
  /** The connection of a save helper of ours, and where that is. */
  #helper: net.Socket | undefined;
  #helperState: HelperState = NO_HELPER;
  /** Resolves when no guest is between running and standing, as far as a helper of ours tells. */
  #settled = Promise.withResolvers<void>();

  constructor(options: TransportOptions) {
    this.#options = options;
    this.#xl = identify(process.ppid)!;
    this.#settled.resolve();
    options.output.on('error', () => {}); // xl is gone, which is seen by its process
  }

  /** Says the banner and reads up to the domain's configuration. @throws GodwitError xen-stream, bad-message */
  async begin(): Promise<XenConfig> {
    const { input, output } = this.#options;
    output.write(BANNER);
    let text: string | undefined;
    const parser = new XenStreamParser({
      ...NOTHING,
      configured: (config) => {
        text = config;
      },
    });
    while (text === undefined) {
      const bytes = await nextOf(input);
      if (bytes === undefined) throw new GodwitError('xen-stream', 'xl has sent no domain');
      this.#early.push(bytes);
      parser.feed(bytes);
    }
    this.#config = readConfig(text);
    return this.#config;
  }

  /** Serves the daemon at that path and the one beside it. @throws GodwitError guest-busy, listen-failed */
  async serve(path: string): Promise<void> {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    await removeStale(path);
    this.#path = path;
    await this.#listen(path, (socket) => this.#control(socket));
    await this.#listen(streamSocketOf(path), (socket) => this.#stream(socket));
    setInterval(() => {
      if (identify(this.#xl.pid)?.startTime !== this.#xl.startTime) this.leave(1);
    }, WATCH_MS);
  }

  /** Ends the process; nothing more is said. */
  leave(code: number): void {
    if (this.#path !== undefined)
      for (const file of [this.#path, streamSocketOf(this.#path)]) rmSync(file, { force: true });
    this.#options.exit(code);
  }

  /** What xl was told. */
  get said(): Said {
    return this.#said;
  }

  async #listen(path: string, serve: (socket: net.Socket) => void): Promise<void> {
    const server = net.createServer({ allowHalfOpen: true }, serve);
    this.#servers.push(server);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once('error', (cause) =>
      reject(new GodwitError('listen-failed', `cannot listen on ${path}: ${cause.message}`)),
    );
    server.listen({ path, readableAll: false, writableAll: false }, resolve);
    await promise;
  }

  /** The first one gets the stream; it is read no faster than the daemon takes it. */
  #stream(socket: net.Socket): void {
    this.#servers[1]!.close();
    this.#isTaken = true;
    socket.on('error', () => {}); // the stream is wanted no more: xl waits, or is told
    for (const bytes of this.#early) socket.write(bytes);
    this.#early = [];
    this.#options.input.pipe(socket);
  }

  #control(socket: net.Socket): void {
    this.#clients.add(socket);
    const splitter = new LineSplitter();
    const { uuid } = this.#config!;
    send(socket, { xl: this.#xl, uuid, said: this.#said, helper: this.#helperState });
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      for (const line of splitter.push(chunk)) void this.#answer(socket, line);
    });
    socket.on('end', () => socket.end());
    socket.on('close', () => {
      if (this.#helper === socket) this.#helps(NO_HELPER);
      this.#clients.delete(socket);
      // Nobody who has taken the stream will say more; after "ready" only a word from the journal counts.
      const isLeft = this.#isTaken && this.#clients.size === 0;
      if (isLeft && this.#said === 'banner' && !this.#drains) this.#giveUp();
    });
  }

  async #answer(socket: net.Socket, line: string): Promise<void> {
    const { execute, id, ...rest } = JSON.parse(line) as {
      execute: TransportCommand | HelperCommand;
      arguments?: { readonly round?: number; readonly pages?: number };
      id: string;
    };
    try {
      const then = Object.hasOwn(HELPER_SAYS, execute)
        ? this.#hear(socket, execute as HelperCommand, rest.arguments)
        : await this.#do(execute as TransportCommand);
      send(socket, { return: {}, id }, then);
    } catch (error) {
      send(socket, { error: { desc: (error as Error).message }, id });
    }
  }

  /** What a save helper of ours says; it wants nothing of the move, and counts for nobody's interest in it. */
  #hear(
    socket: net.Socket,
    command: HelperCommand,
    { round = this.#helperState.round, pages = 0 } = {},
  ): undefined {
    if (command === 'helper') {
      this.#clients.delete(socket);
      this.#helper = socket;
    }
    this.#helps({ state: HELPER_SAYS[command], round, pages });
  }

  #helps(state: HelperState): void {
    if (state === NO_HELPER) this.#helper = undefined;
    this.#helperState = state;
    if (state.state !== 'told') this.#settled.resolve();
    for (const client of this.#clients) tell(client, 'HELPER', state);
  }

  /** @returns what follows the answer */
  async #do(command: TransportCommand): Promise<(() => void) | undefined> {
    switch (command) {
      case 'ready':
        if (this.#said === 'banner') await this.#say('ready', READY);
        this.#mustNotHaveSaid('denied');
        return undefined;
      case 'runs':
        this.#mustNotHaveSaid('denied', 'banner');
        if (this.#said === 'ready') await this.#say('runs', RUNS);
        return () => this.leave(0);
      case 'deny':
        this.#mustNotHaveSaid('runs');
        if (this.#said === 'banner') return () => this.#giveUp();
        if (this.#said === 'ready') await this.#say('denied', DENIED);
        this.#drain(); // xl may not have said GO yet, and would be lost if that were not read
        return undefined;
      case 'suspend':
        if (this.#helper === undefined) throw new Error('no save helper of ours asks for that');
        this.#settled = Promise.withResolvers();
        this.#helps({ ...this.#helperState, state: 'told' });
        tell(this.#helper, 'SUSPEND');
        return undefined;
      case 'abort':
        this.#mustNotHaveSaid('runs', 'ready');
        return this.#abort();
      default:
        throw new Error('there is no such command');
    }
  }

  /**
   * Ends, so that xl runs the guest on. One that is just being suspended has to stand first: xl resumes none
   * that does not, and it would stand for ever.
   */
  #giveUp(): void {
    this.#options.input.unpipe();
    this.#options.input.resume();
    void this.#settled.promise.then(() => this.leave(1));
  }

  /** Lets the helper clean up (log-dirty off), and reads on so that it can; ends at once where it cannot be told. */
  #abort(): () => void {
    const helpers = helpersOf(this.#xl.pid);
    for (const pid of helpers) looked(() => process.kill(pid, 'SIGTERM'));
    if (helpers.length === 0) return () => this.leave(1);
    this.#drain();
    setTimeout(() => this.leave(1), ABORT_LIMIT_MS);
    return () => {};
  }

  /** Reads what xl still sends, for nobody, and ends with it. */
  #drain(): void {
    if (this.#drains) return;
    this.#drains = true;
    const { input } = this.#options;
    input.unpipe();
    input.resume();
    if (input.readableEnded) return this.leave(1);
    input.once('end', () => this.leave(1));
  }

  /** Resolves when the kernel has it. */
  #say(said: Said, bytes: Buffer): Promise<void> {
    this.#said = said;
    return new Promise((resolve) => this.#options.output.write(bytes, () => resolve()));
  }

  #mustNotHaveSaid(...said: Said[]): void {
    if (said.includes(this.#said)) throw new Error(`xl was told "${this.#said}"`);
  }
}

/** What a save helper of ours says: that it is one, each round, that it waits with `suspend`, that the guest stands. */
const HELPER_SAYS = { helper: 'saves', round: 'saves', asks: 'asks', stands: 'stands' } as const;
type HelperCommand = keyof typeof HELPER_SAYS;

const NOTHING: XenStreamSink = {
  configured: () => {},
  began: () => {},
  record: () => {},
  passed: () => {},
  pageData: () => {},
  page: () => {},
  pageDataEnds: () => {},
  ended: () => {},
  after: () => {},
};

function send(socket: net.Socket, message: unknown, then?: () => void): void {
  socket.write(`${JSON.stringify(message)}\n`, then);
}

function tell(socket: net.Socket, event: string, data: object = {}): void {
  const ms = Date.now();
  const timestamp = { seconds: Math.floor(ms / 1000), microseconds: (ms % 1000) * 1000 };
  send(socket, { event, data, timestamp });
}

function nextOf(input: Readable): Promise<Buffer | undefined> {
  const { promise, resolve } = Promise.withResolvers<Buffer | undefined>();
  const ended = () => resolve(undefined);
  input.once('end', ended);
  input.once('data', (bytes: Buffer) => {
    input.pause();
    input.off('end', ended);
    resolve(bytes);
  });
  input.resume();
  return promise;
}

/** What a process that was killed has left; one that lives has the guest. @throws GodwitError guest-busy */
async function removeStale(path: string): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = net.connect(path, () => resolve(true));
  socket.once('error', () => resolve(false));
  const serves = await promise;
  socket.destroy();
  if (serves) throw new GodwitError('guest-busy', 'another xl moves this guest already');
  for (const file of [path, streamSocketOf(path)]) rmSync(file, { force: true });
}
