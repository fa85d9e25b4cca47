import type { Socket } from 'node:net';
import type { GodwitError } from '../../errors.ts';
import {
  CommandRefused,
  LineClient,
  type LineEvent,
  type LineProtocol,
  type Message,
  openInTime,
  shown,
} from '../line-client.ts';

/** The longest answer, that to query-qmp-schema, has a quarter of a MiB in QEMU 10. */
const MAX_LINE_BYTES = 4 << 20;
/** QEMU greets as soon as its main loop turns, unless another client has the monitor. */
const GREETING_LIMIT_MS = 5_000;
/** QEMU answers in milliseconds; its main loop may stand still while devices stop and are saved. */
const COMMAND_LIMIT_MS = 10_000;

const QMP: LineProtocol = {
  name: 'QMP',
  greeting: 'QMP',
  server: 'QEMU',
  socket: 'QMP socket',
  maxLineBytes: MAX_LINE_BYTES,
  refusal(command, error) {
    const words = (error as { desc?: string } | null)?.desc ?? JSON.stringify(error);
    const text = `QEMU refused ${command}: ${words}`;
    return new CommandRefused('hypervisor-failed', text, { cause: error });
  },
};

export interface QmpOptions {
  readonly greetingLimitMs?: number;
  readonly commandLimitMs?: number;
  readonly maxLineBytes?: number;
}

export type QmpEvent = LineEvent;

/**
 * A client of QEMU's monitor (QMP, `docs/interop/qmp-spec.rst` of QEMU). QEMU serves one client of a
 * monitor at a time; this one holds it until `close`.
 */
export class QmpClient extends LineClient {
  #version = '';

  /**
   * Connects and negotiates.
   * @throws GodwitError hypervisor-failed: nobody listens, or no greeting that QEMU would send;
   *   not-seen: no greeting in time
   */
  static async connect(path: string, options: QmpOptions = {}): Promise<QmpClient> {
    const greetingMs = options.greetingLimitMs ?? GREETING_LIMIT_MS;
    const commandMs = options.commandLimitMs ?? COMMAND_LIMIT_MS;
    const protocol = { ...QMP, maxLineBytes: options.maxLineBytes ?? MAX_LINE_BYTES };
    const socket = await openInTime(path, protocol, greetingMs);
    const client = new QmpClient(socket, path, protocol, { greetingMs, commandMs });
    try {
      await client.#negotiate();
    } catch (error) {
      client.close();
      throw error;
    }
    return client;
  }

  /**
   * True when a process listens on the socket, however many wait for it. It is heard out: a QEMU (7.2) that
   * is still starting crashes of clients that come and go, of those that stay a while less often.
   */
  static async serves(path: string): Promise<boolean> {
    const limits = { greetingMs: GREETING_LIMIT_MS, commandMs: COMMAND_LIMIT_MS };
    let socket: Socket;
    try {
      socket = await openInTime(path, QMP, 0);
    } catch (error) {
      return (error as GodwitError).code === 'not-seen';
    }
    const client = new QmpClient(socket, path, QMP, limits);
    await client.#negotiate().catch(() => {}); // whoever it is, it is there
    client.close();
    return true;
  }

  /** QEMU's, as in `10.0.2`. */
  get version(): string {
    return this.#version;
  }

  async #negotiate(): Promise<void> {
    const greeting = await this.greeting(': another client may hold the monitor');
    const version = versionOf(greeting);
    if (version === undefined)
      throw this.failure(`did not greet as QEMU does: ${shown(JSON.stringify(greeting))}`);
    await this.execute('qmp_capabilities');
    this.#version = version;
  }
}

/** `{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, …}, …}}` */
function versionOf(greeting: Message): string | undefined {
  const { version } = (greeting.QMP ?? {}) as { version?: { qemu?: Record<string, unknown> } };
  const { major, minor, micro } = version?.qemu ?? {};
  const numbers = [major, minor, micro];
  return numbers.every(Number.isInteger) ? numbers.join('.') : undefined;
}
