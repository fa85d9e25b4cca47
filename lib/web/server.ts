import http from 'node:http';
import https from 'node:https';
import type { AddressInfo, ListenOptions } from 'node:net';
import os from 'node:os';
import type { AgentBackend, SenderBackend } from '../api/backend.ts';
import { RequestRefused, sendError, sendJson } from '../api/http.ts';
import type { TcpAddress } from '../api/metrics-server.ts';
import { API_PATH } from '../api/openapi.ts';
import { answer, isSender, routesOf } from '../api/routes.ts';
import { claimSocket } from '../api/socket-file.ts';
import { GodwitError } from '../errors.ts';
import { renderEvacuation } from '../evacuation/report.ts';
import { log } from '../log.ts';
import { formatAddress } from '../wire/address.ts';
import { isLoopback } from '../wire/connect.ts';
import type { Credentials, Security } from '../wire/credentials.ts';
import { type PageFile, pageFiles } from './files.ts';
import { type Rules, requireWelcome } from './guard.ts';
import { Recorder } from './recorder.ts';
import { Reports } from './reports.ts';

/** Where the page is served, and to whom. */
export interface WebOptions {
  /** An address, or the path of a Unix socket that only the agent's user may use. */
  readonly at: TcpAddress | string;
  /** Needed to reach it from other hosts. */
  readonly token: string | undefined;
}

/** A page has one event stream and asks for a few things at a time: enough for two dozen pages. */
const MAX_CONNECTIONS = 64;
/** Requests are short, ms. */
const REQUEST_MS = 10_000;

/** Of the API, what the page has a use for. No move can be begun here: a policy module is a program. */
const ROUTES = new Set([
  ...['GET /events', 'GET /history', 'GET /guests', 'GET /evacuation', 'POST /evacuation/cancel'],
  ...['GET /guests/NAME/profile', 'POST /guests/NAME/profile', 'DELETE /guests/NAME/profile'],
  ...['PATCH /migrations/ID', 'POST /migrations/ID/cancel', 'POST /migrations/ID/cutover'],
]);

const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'cache-control': 'no-store',
};
/** A report brings its style along. */
const REPORT_POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** The page of an agent: files, what the page needs of the API, and reports. */
export class WebServer {
  readonly #backend: AgentBackend;
  readonly #files: ReadonlyMap<string, PageFile>;
  readonly #rules: Rules;
  readonly #recorder: Recorder;
  readonly #reports = new Reports();
  readonly #closing = new AbortController();
  readonly #http: http.Server | https.Server;

  /**
   * From other hosts it is reached over TLS with the certificate of this host, if it has one.
   * @throws GodwitError listen-failed, bad-option for a socket's path that can never be used
   */
  static async open(
    options: WebOptions,
    { credentials }: Security,
    backend: AgentBackend,
  ): Promise<WebServer> {
    const server = new WebServer(options, credentials, backend);
    try {
      await server.#listen(options.at);
    } catch (error) {
      server.close();
      throw error;
    }
    return server;
  }

  private constructor(
    { at, token }: WebOptions,
    credentials: Credentials | undefined,
    backend: AgentBackend,
  ) {
    this.#backend = backend;
    this.#files = pageFiles({ role: backend.role, host: os.hostname() });
    this.#rules = { token, isLocal: isLocal(at) };
    this.#recorder = new Recorder(backend);
    const limits = { requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS };
    const take = (request: http.IncomingMessage, response: http.ServerResponse) => {
      response.on('error', () => response.destroy());
      this.#answer(request, response).catch((thrown) => {
        if (thrown instanceof RequestRefused && thrown.status === 401)
          response.setHeader('www-authenticate', 'Basic realm="godwit", charset="UTF-8"');
        sendError(response, thrown);
      });
    };
    this.#http =
      credentials === undefined || this.#rules.isLocal
        ? http.createServer(limits, take)
        : https.createServer({ ...limits, ...shown(credentials) }, take);
    this.#http.maxConnections = MAX_CONNECTIONS;
  }

  /** For connections from here on. */
  renew({ credentials }: Security): void {
    if (this.#http instanceof https.Server && credentials !== undefined)
      this.#http.setSecureContext(shown(credentials));
  }

  close(): void {
    this.#recorder.close();
    this.#closing.abort();
    this.#http.close();
    this.#http.closeAllConnections();
  }

  async #answer(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
    requireWelcome(request, this.#rules);
    const [path = '/'] = (request.url ?? '').split('?');
    if (path.startsWith(`${API_PATH}/`)) {
      const routes = routesOf(this.#backend).filter(({ method, path }) =>
        ROUTES.has(`${method} ${path}`),
      );
      return answer(this.#backend, request, response, this.#closing.signal, routes);
    }
    if (request.method !== 'GET') throw new RequestRefused(405, `${path} takes GET`);
    const [, kind, id = ''] = /^\/(samples|report)\/(\w+)$/.exec(path) ?? [];
    if (kind === 'samples') return sendJson(response, 200, { samples: this.#recorder.of(id) });
    if (kind === 'report' && isSender(this.#backend)) {
      const html = await this.#report(this.#backend, id);
      response.setHeader('content-security-policy', REPORT_POLICY);
      return send(response, { type: 'text/html', body: html });
    }
    const file = this.#files.get(path);
    if (file === undefined) throw new RequestRefused(404, `there is nothing at ${path}`);
    send(response, file);
  }

  /** Of a migration, or of the evacuation: that is a table, which takes no time to make. */
  async #report(backend: SenderBackend, id: string): Promise<string> {
    if (id !== 'evacuation') return this.#reports.render(await backend.ledgerFile(id));
    const evacuation = backend.evacuations.view();
    if (evacuation === undefined) throw new RequestRefused(404, 'there is no evacuation');
    return renderEvacuation(evacuation);
  }

  async #listen(at: TcpAddress | string): Promise<void> {
    if (typeof at === 'string') await claimSocket(at, 'socket of the page', '--web');
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const where: ListenOptions = typeof at === 'string' ? { path: at } : at;
    this.#http.once('error', (cause: NodeJS.ErrnoException) => {
      const name = typeof at === 'string' ? at : `${at.host} port ${at.port}`;
      const text = `cannot listen on ${name} for the page: ${cause.code}`;
      reject(new GodwitError('listen-failed', text, { cause }));
    });
    const umask = process.umask(0o177); // a socket is private from its first moment
    this.#http.listen(where, resolve);
    process.umask(umask);
    await promise;
    this.#http.on('error', (error) => log('error', `page: ${error.message}`));
    log('info', `page on ${this.address}`);
  }

  /** Where it is, for whoever looks for it: a URL, or `socket PATH`. */
  get address(): string {
    const bound = this.#http.address() as AddressInfo | string;
    if (typeof bound === 'string') return `socket ${bound}`;
    const scheme = this.#http instanceof https.Server ? 'https' : 'http';
    return `${scheme}://${formatAddress(bound.address, bound.port)}/`;
  }
}

/** Nobody on another host can connect there. */
export function isLocal(at: WebOptions['at']): boolean {
  return typeof at === 'string' || isLoopback(at.host);
}

function shown({ cert, key }: Credentials) {
  return { cert, key };
}

function send(response: http.ServerResponse, { type, body }: PageFile): void {
  response.writeHead(200, { 'content-type': `${type}; charset=utf-8` });
  response.end(body);
}
