import fs from 'node:fs';
import http from 'node:http';
import { GodwitError } from '../errors.ts';
import { log } from '../log.ts';
import type { AgentBackend } from './backend.ts';
import { sendError } from './http.ts';
import { answer } from './routes.ts';
import { claimSocket } from './socket-file.ts';

/** Answers that are on their way when the server closes have this long to get there. */
const CLOSE_MS = 1000;

/** The control socket of an agent: HTTP with JSON on a Unix socket of its user and, where one is given, a group. */
export class ControlServer {
  readonly #http: http.Server;
  readonly #closing = new AbortController();

  /**
   * @param group ID of a group whose members may use it, too
   * @throws GodwitError listen-failed when another daemon is there, the path cannot be used, or the agent may
   *   not give it to the group
   */
  static async open(socket: string, backend: AgentBackend, group?: number): Promise<ControlServer> {
    await claimSocket(socket);
    const server = new ControlServer(backend);
    await server.#listen(socket);
    try {
      if (group !== undefined) giveToGroup(socket, group);
    } catch (error) {
      await server.close();
      throw error;
    }
    return server;
  }

  private constructor(backend: AgentBackend) {
    this.#http = http.createServer((request, response) => {
      const { signal } = this.#closing;
      // A client that has gone cannot be answered; nobody else is concerned.
      response.on('error', () => response.destroy());
      answer(backend, request, response, signal).catch((thrown) => sendError(response, thrown));
    });
  }

  /** Ends event streams where they are; answers that are being written are finished. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#http.close(resolve));
    this.#closing.abort();
    const cutOff = setTimeout(() => this.#http.closeAllConnections(), CLOSE_MS);
    await closed;
    clearTimeout(cutOff);
  }

  #listen(socket: string): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#http.once('error', (cause: NodeJS.ErrnoException) => {
      const message = `cannot listen on the control socket ${socket}: ${cause.code}`;
      reject(new GodwitError('listen-failed', message, { cause }));
    });
    // The umask keeps the socket private from its first moment; chmod would come after it.
    const umask = process.umask(0o177);
    this.#http.listen(socket, () => {
      // A connection that cannot be accepted (no file descriptor left) is no reason to end.
      this.#http.on('error', (error) => log('error', `control socket: ${error.message}`));
      resolve();
    });
    process.umask(umask);
    return promise;
  }
}

/** First whose it is, then what they may: nobody is let in between. */
function giveToGroup(socket: string, group: number): void {
  try {
    fs.chownSync(socket, -1, group);
    fs.chmodSync(socket, 0o660);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const message = `the control socket ${socket} cannot be given to group ${group}: ${code}; is the agent's user in it?`;
    throw new GodwitError('listen-failed', message, { cause });
  }
}
