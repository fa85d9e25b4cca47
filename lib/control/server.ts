import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { asGodwitError, type ErrorCode, GodwitError } from '../errors.ts';
import type { AgentBackend, SenderBackend } from './backend.ts';
import { metricsText } from './metrics.ts';
import { parseLimitsPatch, parseMigrationRequest } from './request.ts';
import type { MigrationView } from './view.ts';

/** Bytes of a request body: the largest is a migration request of a few hundred. */
const MAX_BODY = 64 << 10;
/** Between two comments on an idle event stream, so that a dead client is noticed. */
const HEARTBEAT_MS = 15_000;

/** HTTP status of an error: by what its code says about whose fault it is. */
const STATUS: Partial<Record<ErrorCode, number>> = {
  'bad-option': 400,
  'unknown-migration': 404,
  'unknown-guest': 404,
  'guest-busy': 409,
  'guest-not-running': 409,
  'too-late': 409,
  'shutting-down': 503,
  internal: 500,
};

/** The control socket of an agent: HTTP with JSON on a Unix socket that only its owner may use. */
export class ControlServer {
  readonly #http: http.Server;
  readonly #backend: AgentBackend;
  readonly #streams = new Set<http.ServerResponse>();

  /** @throws GodwitError listen-failed when another daemon is there or the path cannot be used */
  static async open(socket: string, backend: AgentBackend): Promise<ControlServer> {
    await claim(socket);
    const server = new ControlServer(backend);
    await server.#listen(socket);
    return server;
  }

  private constructor(backend: AgentBackend) {
    this.#backend = backend;
    this.#http = http.createServer((request, response) => {
      this.#answer(request, response).catch((thrown) => sendError(response, asGodwitError(thrown)));
    });
  }

  async close(): Promise<void> {
    for (const stream of this.#streams) stream.end();
    const closed = new Promise((resolve) => this.#http.close(resolve));
    this.#http.closeAllConnections();
    await closed;
  }

  #listen(socket: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#http.once('error', (cause: NodeJS.ErrnoException) =>
        reject(
          new GodwitError('listen-failed', `control socket ${socket}: ${cause.code}`, { cause }),
        ),
      );
      // The umask keeps the socket private from its first moment; chmod would come after it.
      const umask = process.umask(0o177);
      this.#http.listen(socket, () => resolve());
      process.umask(umask);
    });
  }

  async #answer(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const { pathname } = new URL(request.url ?? '/', 'http://agent');
    const [root, id, action, ...rest] = pathname.split('/').slice(1).map(decode);
    const route = `${request.method} /${[root, id && ':id', action].filter(Boolean).join('/')}`;
    const backend = this.#backend;
    if (rest.length > 0) throw notFound(pathname);
    switch (route) {
      case 'GET /healthz':
        return sendJson(response, 200, { status: 'ok', role: backend.role });
      case 'GET /metrics':
        response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4' });
        response.end(metricsText(backend.list(), backend.totals()));
        return;
      case 'GET /migrations':
        return sendJson(response, 200, { migrations: backend.list() });
      case 'GET /migrations/:id':
        return sendJson(response, 200, backend.show(id!));
      case 'POST /migrations/:id/cancel':
        return sendJson(response, 202, backend.cancel(id!));
      case 'GET /migrations/:id/events':
        return this.#stream(backend, id!, response);
    }
    const sender = backend.role === 'send' ? (backend as SenderBackend) : undefined;
    if (!sender) throw notFound(pathname);
    switch (route) {
      case 'POST /migrations':
        return sendJson(
          response,
          201,
          await sender.start(parseMigrationRequest(await readJson(request))),
        );
      case 'PATCH /migrations/:id':
        return sendJson(
          response,
          200,
          sender.change(id!, parseLimitsPatch(await readJson(request))),
        );
      case 'POST /migrations/:id/cutover':
        return sendJson(response, 202, sender.cutover(id!));
      case 'GET /migrations/:id/ledger':
        return sendFile(response, sender.ledgerFile(id!));
      case 'GET /guests':
        return sendJson(response, 200, { guests: await sender.guests() });
      default:
        throw notFound(pathname);
    }
  }

  /** Server-sent events: `view` on every change, `end` with the last view. */
  #stream(backend: AgentBackend, id: string, response: http.ServerResponse): void {
    let unwatch: (() => void) | undefined;
    const heartbeat = setInterval(() => response.write(':\n\n'), HEARTBEAT_MS);
    response.on('close', () => {
      clearInterval(heartbeat);
      this.#streams.delete(response);
      unwatch?.();
    });
    const send = (view: MigrationView) => {
      const ended = view.phase === 'ended';
      // A client that does not read is not worth the memory; it gets the next view it has room for.
      if (!ended && response.writableNeedDrain) return;
      if (!response.headersSent)
        response.writeHead(200, {
          'content-type': 'text/event-stream',
          'cache-control': 'no-store',
        });
      response.write(`event: ${ended ? 'end' : 'view'}\ndata: ${JSON.stringify(view)}\n\n`);
      if (ended) response.end();
    };
    this.#streams.add(response);
    unwatch = backend.watch(id, send);
  }
}

/** Makes the directory, and removes a socket that a dead daemon left. */
async function claim(socket: string): Promise<void> {
  try {
    fs.mkdirSync(path.dirname(socket), { recursive: true, mode: 0o700 });
  } catch (cause) {
    const text = `cannot make ${path.dirname(socket)}: ${(cause as NodeJS.ErrnoException).code}`;
    throw new GodwitError('listen-failed', text, { cause });
  }
  if (!fs.existsSync(socket)) return;
  const alive = await new Promise<boolean>((resolve) => {
    const probe = net.connect(socket, () => {
      probe.destroy();
      resolve(true);
    });
    probe.on('error', () => resolve(false));
  });
  if (alive)
    throw new GodwitError('listen-failed', `another daemon serves the control socket ${socket}`);
  fs.rmSync(socket, { force: true });
}

async function readJson(request: http.IncomingMessage): Promise<unknown> {
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of request) {
    size += piece.length;
    if (size > MAX_BODY)
      throw new GodwitError('bad-option', `a request body has at most ${MAX_BODY} bytes`);
    pieces.push(piece);
  }
  try {
    return JSON.parse(Buffer.concat(pieces).toString('utf8'));
  } catch (cause) {
    throw new GodwitError('bad-option', 'the request body is not JSON', { cause });
  }
}

function sendJson(response: http.ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(`${JSON.stringify(body)}\n`);
}

function sendError(response: http.ServerResponse, { code, message }: GodwitError): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  response.setHeader('connection', 'close');
  sendJson(response, STATUS[code] ?? 422, { error: { code, message } });
}

function sendFile(response: http.ServerResponse, file: string): void {
  const stream = fs.createReadStream(file);
  stream.once('open', () => response.writeHead(200, { 'content-type': 'application/x-ndjson' }));
  stream.once('error', (cause) =>
    sendError(response, new GodwitError('unknown-migration', `no ledger ${file}`, { cause })),
  );
  stream.pipe(response);
}

function notFound(pathname: string): GodwitError {
  return new GodwitError('unknown-migration', `there is nothing at ${pathname}`);
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
