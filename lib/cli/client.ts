import http from 'node:http';
import type { ProfileRequest } from '../api/request.ts';
import { type ErrorCode, GodwitError } from '../errors.ts';
import type { ProfileProgress } from '../guest/profile.ts';
import type { MigrationView } from '../migration/view.ts';
import type { GuestProfile } from '../precopy/profile.ts';
import { formatDuration } from '../units.ts';

/**
 * A daemon that says nothing for so long stands still, ms: its own limits are shorter, and an event
 * stream has a comment every 15 s.
 */
const SILENCE_MS = 60_000;
/** A client that was stopped itself finds here what has come meanwhile, ms. */
const GRACE_MS = 1000;

/** Client of an agent's control socket. */
export class ControlClient {
  readonly #socket: string;
  readonly #agent: string;
  readonly #silenceMs: number;

  constructor(socket: string, agent: string, silenceMs = SILENCE_MS) {
    this.#socket = socket;
    this.#agent = agent;
    this.#silenceMs = silenceMs;
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
    const events = this.#events(await this.#send('GET', `/migrations/${id}/events`));
    for await (const { data } of events) yield data as MigrationView;
  }

  /**
   * Has a profile taken, and calls back as it goes; leaving early ends it.
   * @throws GodwitError daemon-unreachable, or the daemon's own error
   */
  async profile(
    guest: string,
    asked: ProfileRequest,
    onProgress: (progress: ProfileProgress) => void,
  ): Promise<GuestProfile> {
    const url = `/guests/${encodeURIComponent(guest)}/profile`;
    const response = await this.#send('POST', url, asked);
    for await (const { event, data } of this.#events(response)) {
      if (event === 'profile') return data as GuestProfile;
      if (event === 'error') throw this.#told(data);
      onProgress(data as ProfileProgress);
    }
    throw this.#unreachable('went away while it took a profile');
  }

  /** Server-sent events, and none of the comments between them. */
  async *#events(
    response: http.IncomingMessage,
  ): AsyncGenerator<{ readonly event: string; readonly data: unknown }> {
    if (response.statusCode !== 200) await this.#text(response);
    let buffered = '';
    for await (const piece of this.#pieces(response)) {
      buffered += piece;
      for (let end = buffered.indexOf('\n\n'); end !== -1; end = buffered.indexOf('\n\n')) {
        const message = buffered.slice(0, end);
        buffered = buffered.slice(end + 2);
        const event = /^event: (.*)$/m.exec(message)?.[1] ?? '';
        const data = /^data: (.*)$/m.exec(message)?.[1];
        if (data !== undefined) yield { event, data: this.#parse(data) };
      }
    }
  }

  async #text(response: http.IncomingMessage): Promise<string> {
    let text = '';
    for await (const piece of this.#pieces(response)) text += piece;
    if ((response.statusCode ?? 500) < 300) return text;
    throw this.#told(this.#parse(text));
  }

  /** The daemon's own error. */
  #told(answer: unknown): GodwitError {
    const { error } = answer as { error?: { code: ErrorCode; message: string } };
    if (error === undefined) return this.#unreachable('answers, but not as an agent does');
    return new GodwitError(error.code, error.message);
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
      if (cause instanceof GodwitError) throw cause;
      throw this.#unreachable('went away while it answered', cause);
    }
  }

  #unreachable(what: string, cause?: unknown): GodwitError {
    const message = `what listens on ${this.#socket} ${what}`;
    return new GodwitError('daemon-unreachable', message, { cause });
  }

  #send(method: string, path: string, body?: unknown): Promise<http.IncomingMessage> {
    return new Promise((resolve, reject) => {
      let response: http.IncomingMessage | undefined;
      // A connection for each: one that was kept may be closed by the daemon just as it is used again.
      const how = { socketPath: this.#socket, method, path, agent: false };
      const request = http.request(how, (begun) => {
        response = begun.on('error', () => {}); // whoever reads it is told
        resolve(response);
      });
      request.setTimeout(this.#silenceMs, () =>
        this.#silent(request, (error) => (response ?? request).destroy(error)),
      );
      request.on('error', (cause: NodeJS.ErrnoException) => reject(this.#failed(cause)));
      request.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  /** Ends the request, unless something has come that was only not read yet. */
  #silent({ socket }: http.ClientRequest, end: (error: GodwitError) => void): void {
    const read = socket?.bytesRead;
    setTimeout(() => {
      if (socket?.bytesRead !== read) return;
      const silence = formatDuration(this.#silenceMs);
      end(this.#unreachable(`has said nothing for ${silence}: does it stand still?`));
    }, GRACE_MS);
  }

  #failed(cause: NodeJS.ErrnoException): GodwitError {
    if (cause instanceof GodwitError) return cause;
    const message =
      cause.code === 'EACCES'
        ? `you may not use ${this.#socket}; run this as the user that runs ${this.#agent}`
        : `no ${this.#agent} answers on ${this.#socket}; start one with "${this.#agent} serve"`;
    return new GodwitError('daemon-unreachable', message, { cause });
  }
}
