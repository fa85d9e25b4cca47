import { once } from 'node:events';
import net from 'node:net';
import type { Begin } from '../crew/task.ts';
import { GodwitError } from '../errors.ts';
import { Counters } from '../pages/counters.ts';
import { Pacer } from '../pages/pacer.ts';
import { wantedNoMore } from '../wire/connect.ts';
import type { Connection } from '../wire/connection.ts';
import { dialLane } from '../wire/dial.ts';
import { Link } from '../wire/link.ts';
import { redial } from '../wire/redial.ts';
import type { SendDisksData, SendDisksRequests } from './disk-protocol.ts';
import { Streams } from './streams.ts';

/**
 * On their way at most, bytes. QEMU stands still while it connects for the next disk, which has its turn
 * behind them; 2 MiB are 16 ms of a link of 1 Gbit/s, and carry 10 Gbit/s over 1.6 ms.
 */
const WINDOW_BYTES = 2 << 20;
/** As long as QEMU may stand still for that, ms; then the copy fails. */
const GREETING_LIMIT_MS = 5000;

/** The disk lane at its source: the hypervisor connects here as if its destination's were here. */
class SendDisks {
  readonly #data: SendDisksData;
  readonly #onFailure: (error: GodwitError) => void;
  readonly #counters: Counters;
  readonly #streams: Streams;
  readonly #server: net.Server;
  readonly #over = new AbortController();
  #link: Link | undefined;

  constructor(data: SendDisksData, onFailure: (error: GodwitError) => void) {
    this.#data = data;
    this.#onFailure = onFailure;
    this.#counters = new Counters(data.counters);
    const pacer = new Pacer(data.pacer);
    this.#streams = new Streams({
      link: () => this.#link!,
      pass: (bytes) => pacer.pass(bytes),
      onSent: (bytes) => this.#counters.add('wireBytes', bytes),
      greetingLimitMs: GREETING_LIMIT_MS,
    });
    this.#server = net.createServer((socket) => this.#streams.add(socket));
  }

  /** @throws GodwitError listen-failed, and as `connectTo` */
  async open(): Promise<undefined> {
    await this.#dial((lane) => {
      this.#link = this.#newLink(lane);
    });
    try {
      await once(this.#server.listen(this.#data.path), 'listening');
    } catch (cause) {
      const text = `the hypervisor cannot be listened for: ${(cause as Error).message}`;
      throw new GodwitError('listen-failed', text, { cause });
    }
    return undefined;
  }

  suspect(reason: string): undefined {
    this.#link?.drop(new GodwitError('peer-silent', reason));
    return undefined;
  }

  close(): void {
    this.#over.abort(wantedNoMore());
    this.#server.close();
    this.#streams.close();
    this.#link?.close();
  }

  #newLink(lane: Connection): Link {
    const { reconnectTimeoutMs, stallTimeoutMs } = this.#data;
    const link: Link = new Link(lane, {
      onMessage: (received) => this.#streams.take(received),
      onInput: (bytes) => this.#counters.add('heardBytes', bytes),
      mayRejoin: () => reconnectTimeoutMs > 0,
      giveUpMs: reconnectTimeoutMs,
      stallMs: stallTimeoutMs,
      retainedBytes: WINDOW_BYTES,
      onLost: () => {
        redial(link, () => this.#dial((again, received) => link.join(again, received)));
      },
      onClose: (error = new GodwitError('peer-closed', 'the disk connection was closed')) => {
        this.#streams.close();
        if (!this.#over.signal.aborted) this.#onFailure(error);
      },
    });
    return link;
  }

  #dial(take: (lane: Connection, received: number) => void): Promise<void> {
    const received = this.#link?.received ?? 0;
    return dialLane({ ...this.#data, signal: this.#over.signal }, received, take);
  }
}

export const begin: Begin<SendDisksData, SendDisksRequests> = (data, fail) => {
  const disks = new SendDisks(data, fail);
  return {
    handlers: { open: () => disks.open(), suspect: (reason) => disks.suspect(reason) },
    close: () => disks.close(),
  };
};
