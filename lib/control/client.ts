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
    return this.#parse<T>(await this.#text(await this.#send(method, path, body)));
  }

  /** A body that is not JSON, as it is. */
  async text(path: string): Promise<string> {
    return this.#text(await this.#send('GET', path));
  }

  /** Views of a migration until it has ended; the last one has phase `ended`. */
  async *events(id: string): AsyncGenerator<MigrationView> {
    const response = await this.#send('GET', `/migrations/${id}/events`);
    if (response.statusCode !== 200) await this.#text(response);
    let buffered = '';
    for await (const piece of this.#pieces(response)) {
      buffered += piece;
      for (let end = buffered.indexOf('\n\n'); end !== -1; end = buffered.indexOf('\n\n')) {
        const data = /^data: (.*)$/m.exec(buffered.slice(0, end))?.[1];
        buffered = buffered.slice(end + 2);
        if (data !== undefined) yield this.#parse<MigrationView>(data);
      }
    }
  }

  async #text(response: http.IncomingMessage): Promise<string> {
    let text = '';
    for await (const piece of this.#pieces(response)) text += piece;
    if ((response.statusCode ?? 500) < 300) return text;
    const { error } = this.#parse<{ error?: { code: ErrorCode; message: string } }>(text);
    if (error === undefined) throw this.#unreachable('answers, but not as an agent does');
    throw new GodwitError(error.code, error.message);
  }

  #parse<T>(text: string): T {
    try {
      return JSON.parse(text) as T;
    } catch (cause) {
      throw this.#unreachable('answers, but not as an agent does', cause);
    }
  }

  async *#pieces(response: http.IncomingMessage): AsyncGenerator<string> {
    response.setEncoding('utf8');
    try {
      yield* response;
    } catch (cause) {
      throw this.#unreachable('went away while it answered', cause);
    }
  }

  #unreachable(what: string, cause?: unknown): GodwitError {
    const message = `what listens on ${this.#socket} ${what}`;
    return new GodwitError('daemon-unreachable', message, { cause });
  }

  #send(method: string, path: string, body?: unknown): Promise<http.IncomingMessage> {
    return new Promise((resolve, reject) => {
      const request = http.request({ socketPath: this.#socket, method, path }, resolve);
      request.on('error', (cause: NodeJS.ErrnoException) => {
        const message =
          cause.code === 'EACCES'
            ? `you may not use ${this.#socket}; run this as the user that runs ${this.#agent}`
            : `no ${this.#agent} answers on ${this.#socket}; start one with "${this.#agent} serve"`;
        reject(new GodwitError('daemon-unreachable', message, { cause }));
      });
      request.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }
}
