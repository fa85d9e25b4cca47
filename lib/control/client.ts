import http from 'node:http';
import { type ErrorCode, GodwitError } from '../errors.ts';
import type { MigrationView } from './view.ts';

/** Client of an agent's control socket. */
export class ControlClient {
  readonly #socket: string;
  readonly #agent: string;

  constructor(socket: string, agent: string) {
    this.#socket = socket;
    this.#agent = agent;
  }

  /** The answer to a request. @throws GodwitError daemon-unreachable, or the daemon's own error */
  async request<T>(method: string, path: string, body?: unknown): Promise<T> {
    const text = await this.#text(await this.#send(method, path, body));
    return JSON.parse(text) as T;
  }

  /** A body that is not JSON, as it is. */
  async text(path: string): Promise<string> {
    return this.#text(await this.#send('GET', path));
  }

  /** Views of a migration until it has ended; the last one has phase `ended`. */
  async *events(id: string): AsyncGenerator<MigrationView> {
    const response = await this.#send('GET', `/migrations/${id}/events`);
    if (response.statusCode !== 200) await this.#text(response);
    response.setEncoding('utf8');
    let buffered = '';
    for await (const piece of response) {
      buffered += piece;
      for (let end = buffered.indexOf('\n\n'); end !== -1; end = buffered.indexOf('\n\n')) {
        const data = /^data: (.*)$/m.exec(buffered.slice(0, end))?.[1];
        buffered = buffered.slice(end + 2);
        if (data !== undefined) yield JSON.parse(data) as MigrationView;
      }
    }
  }

  async #text(response: http.IncomingMessage): Promise<string> {
    response.setEncoding('utf8');
    let text = '';
    for await (const piece of response) text += piece;
    if ((response.statusCode ?? 500) < 300) return text;
    const { error } = JSON.parse(text) as { error: { code: ErrorCode; message: string } };
    throw new GodwitError(error.code, error.message);
  }

  #send(method: string, path: string, body?: unknown): Promise<http.IncomingMessage> {
    return new Promise((resolve, reject) => {
      const request = http.request({ socketPath: this.#socket, method, path }, resolve);
      request.on('error', (cause) =>
        reject(
          new GodwitError(
            'daemon-unreachable',
            `no ${this.#agent} answers on ${this.#socket}; start one with "${this.#agent} serve"`,
            { cause },
          ),
        ),
      );
      request.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }
}
