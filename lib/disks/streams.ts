import type { Socket } from 'node:net';
import { GodwitError } from '../errors.ts';
import type { Received } from '../wire/connection.ts';
import type { Link } from '../wire/link.ts';

/** Connections that a guest may have to its disks, one after the other or at once: one for each disk. */
const MAX_STREAMS = 256;
/**
 * Bytes of one connection that may wait here for its hypervisor. NBD answers every write, and QEMU's
 * mirror has 16 MiB on their way at most.
 */
const MAX_WAITING = 64 << 20;

export interface StreamsOptions {
  /** Carries them; what it has to say is given to `take`. */
  readonly link: () => Pick<Link, 'send' | 'ready'>;
  /** Waits until so many bytes may go. */
  readonly pass: (bytes: number) => Promise<void>;
  /** Bytes have gone to the other side, or have come. */
  readonly onSent?: (bytes: number) => void;
  readonly onTaken?: (bytes: number) => void;
  /** Who has heard nothing of the other side for so long after it has connected here is let go, ms. */
  readonly greetingLimitMs?: number;
  /** A connection that the other side has opened goes on here. */
  readonly accept?: () => Socket;
}

/**
 * Connections of a hypervisor to the disks of another one, by their numbers, over one link: what is
 * read of a socket here is written to its twin there, and the other way round.
 */
export class Streams {
  readonly #options: StreamsOptions;
  readonly #open = new Map<number, Socket>();
  #last = 0;

  constructor(options: StreamsOptions) {
    this.#options = options;
  }

  /** One more, which was opened here. Its twin is told at once: of an NBD server the first word is expected. */
  add(socket: Socket): void {
    if (this.#last === MAX_STREAMS) return void socket.destroy();
    const stream = ++this.#last;
    const { greetingLimitMs } = this.#options;
    const isSilent = () => {
      if (socket.bytesWritten === 0) socket.destroy();
    };
    if (greetingLimitMs !== undefined) setTimeout(isSilent, greetingLimitMs).unref();
    this.#begin(stream, socket, async () => {
      this.#options.link().send('DiskBytes', { stream });
    });
  }

  /** @throws GodwitError bad-kind, bad-message, too-many */
  take({ kind, message, payload }: Received): void {
    if (kind !== 'DiskBytes')
      throw new GodwitError('bad-kind', `${kind} on a data connection for disks`);
    const { stream } = message;
    const { accept } = this.#options;
    if (stream === this.#last + 1 && accept && payload.length === 0) return this.#accept(accept);
    if (stream < 1 || stream > this.#last)
      throw new GodwitError('bad-message', `there is no connection ${stream} to a disk`);
    this.#options.onTaken?.(payload.length);
    const socket = this.#open.get(stream);
    if (payload.length === 0) socket?.end();
    else socket?.write(Buffer.from(payload)); // else its end is on the way to the other side
    if (socket !== undefined && socket.writableLength > MAX_WAITING)
      throw new GodwitError('too-many', 'more was sent to a disk than waits for its answer');
  }

  close(): void {
    for (const socket of this.#open.values()) socket.destroy();
  }

  #accept(accept: () => Socket): void {
    if (this.#last === MAX_STREAMS)
      throw new GodwitError('too-many', `a guest has no more than ${MAX_STREAMS} disks`);
    this.#begin(++this.#last, accept(), async () => {});
  }

  #begin(stream: number, socket: Socket, open: () => Promise<void>): void {
    this.#open.set(stream, socket);
    socket.on('error', () => {}); // its end is what counts
    open()
      .then(() => this.#carry(stream, socket))
      .catch(() => {}) // the socket or the link has ended
      .finally(() => this.#end(stream, socket));
  }

  async #carry(stream: number, socket: Socket): Promise<void> {
    const { pass, link, onSent } = this.#options;
    for await (const bytes of socket.iterator({ destroyOnReturn: false })) {
      await pass(bytes.length);
      await link().ready();
      link().send('DiskBytes', { stream }, [bytes]);
      onSent?.(bytes.length);
    }
  }

  /** What was written to it may still be on its way. */
  async #end(stream: number, socket: Socket): Promise<void> {
    try {
      this.#options.link().send('DiskBytes', { stream });
    } catch {} // the link has ended
    socket.end();
    const closed = Promise.withResolvers<void>();
    socket.once('close', closed.resolve);
    if (!socket.closed) await closed.promise;
    this.#open.delete(stream);
  }
}
