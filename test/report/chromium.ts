import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** Steps of waiting for the browser to come up; it takes about a second, a loaded machine more. */
const START_STEPS = 600;
const STEP_MS = 100;

const FLAGS = [
  ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
  ...['--disable-background-networking', '--disable-component-update', '--disable-sync'],
  '--remote-debugging-port=0',
];

interface Reply {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Record<string, unknown>;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly message: string };
}

/** A headless browser with one page, steered over its debugging socket. */
export class Chromium {
  readonly #process: ChildProcess;
  readonly #profile: string;
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, (reply: Reply) => void>();
  readonly events: { method: string; params: Record<string, unknown> }[] = [];
  #lastId = 0;

  private constructor(process: ChildProcess, profile: string, socket: WebSocket) {
    this.#process = process;
    this.#profile = profile;
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => this.#receive(JSON.parse(String(data))));
  }

  /** @param program path of the browser */
  static async start(program: string): Promise<Chromium> {
    const profile = await mkdtemp(join(tmpdir(), 'godwit-chromium-'));
    const child = spawn(program, [...FLAGS, `--user-data-dir=${profile}`, 'about:blank'], {
      stdio: 'ignore',
    });
    try {
      const socket = new WebSocket(await pageAddress(profile, child));
      await once(socket, 'open');
      return new Chromium(child, profile, socket);
    } catch (error) {
      await end(child, profile);
      throw error;
    }
  }

  async call(method: string, params: object = {}): Promise<Record<string, unknown>> {
    const id = ++this.#lastId;
    const reply = new Promise<Reply>((resolve) => this.#waiting.set(id, resolve));
    this.#socket.send(JSON.stringify({ id, method, params }));
    const { result, error } = await reply;
    if (error !== undefined) throw new Error(`${method}: ${error.message}`);
    return result ?? {};
  }

  /** The value of an expression in the page, or what it is a promise of; it must be JSON. */
  async evaluate<T>(expression: string): Promise<T> {
    const how = { returnByValue: true, awaitPromise: true };
    const { result } = await this.call('Runtime.evaluate', { expression, ...how });
    return (result as { value: T }).value;
  }

  /** Loads a file and waits until it stands. */
  async open(url: string): Promise<void> {
    this.events.length = 0;
    await this.call('Page.navigate', { url });
    while (!this.events.some(({ method }) => method === 'Page.loadEventFired')) await delay(10);
  }

  async close(): Promise<void> {
    this.#socket.close();
    await end(this.#process, this.#profile);
  }

  #receive({ id, method, params, ...rest }: Reply): void {
    if (id !== undefined) this.#waiting.get(id)?.(rest);
    if (method !== undefined) this.events.push({ method, params: params ?? {} });
  }
}

/** The browser writes the port that it took into its profile. */
async function pageAddress(profile: string, child: ChildProcess): Promise<string> {
  for (let i = 0; i < START_STEPS && child.exitCode === null; i++) {
    await delay(STEP_MS);
    const text = await readFile(join(profile, 'DevToolsActivePort'), 'utf8').catch(() => '');
    const port = text.split('\n')[0];
    if (port === undefined || port === '') continue;
    const pages = await (await fetch(`http://127.0.0.1:${port}/json/list`)).json();
    const page = (pages as { type: string; webSocketDebuggerUrl: string }[]).find(
      ({ type }) => type === 'page',
    );
    if (page !== undefined) return page.webSocketDebuggerUrl;
  }
  throw new Error('the browser did not come up');
}

async function end(child: ChildProcess, profile: string): Promise<void> {
  const ended = child.exitCode === null ? once(child, 'exit') : undefined;
  child.kill('SIGKILL');
  await ended;
  // Its child processes write for a moment after it is gone.
  await rm(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
}
