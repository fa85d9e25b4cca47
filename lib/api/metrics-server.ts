import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { GodwitError } from '../errors.ts';
import { log } from '../log.ts';
import type { AgentBackend } from './backend.ts';
import { RequestRefused, sendError } from './http.ts';
import { healthRoute, metricsRoute } from './routes.ts';

/** Whoever scrapes does so with a connection or two; more are strangers. */
const MAX_CONNECTIONS = 16;
/** A scrape has one short request, ms. */
const REQUEST_MS = 5000;

const ROUTES = [metricsRoute, healthRoute];

export interface TcpAddress {
  readonly host: string;
  readonly port: number;
}

/** `/metrics` and `/healthz` for whoever can connect: figures are to be read, and nothing can be done. */
export class MetricsServer {
  readonly #http: http.Server;

  /** @throws GodwitError listen-failed */
  static async open({ host, port }: TcpAddress, backend: AgentBackend): Promise<MetricsServer> {
    const server = new MetricsServer(backend);
    await server.#listen(host, port);
    return server;
  }

  private constructor(backend: AgentBackend) {
    const limits = { requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS };
    this.#http = http.createServer(
      { ...limits, keepAliveTimeout: REQUEST_MS },
      (request, response) => {
        response.on('error', () => response.destroy());
        try {
          const route = ROUTES.find(({ path }) => path === request.url?.split('?')[0]);
          if (route === undefined)
            throw new RequestRefused(404, 'there are /metrics and /healthz here');
          if (request.method !== 'GET') throw new RequestRefused(405, `${route.path} takes GET`);
          route.answer({ backend, response });
        } catch (thrown) {
          sendError(response, thrown);
        }
      },
    );
    this.#http.maxConnections = MAX_CONNECTIONS;
  }

  close(): void {
    this.#http.close();
    this.#http.closeAllConnections();
  }

  async #listen(host: string, port: number): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#http.once('error', (cause: NodeJS.ErrnoException) => {
      const text = `cannot listen on ${host} port ${port} for metrics: ${cause.code}`;
      reject(new GodwitError('listen-failed', text, { cause }));
    });
    this.#http.listen(port, host, resolve);
    await promise;
    this.#http.on('error', (error) => log('error', `metrics: ${error.message}`));
    const { address, family, port: bound } = this.#http.address() as AddressInfo;
    const shown = family === 'IPv6' ? `[${address}]` : address;
    log('info', `metrics on http://${shown}:${bound}/metrics`);
  }
}
