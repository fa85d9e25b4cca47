import type { ErrorCode } from '../../errors.ts';
import { CommandRefused, LineClient, type LineProtocol, openInTime } from '../line-client.ts';
import { MAX_LINE_BYTES } from '../line-splitter.ts';

/** A VMM greets and answers as soon as its main thread turns; a machine under load gets more. */
const LIMITS = { greetingMs: 5_000, commandMs: 10_000 };
/** It reads all of the guest's memory. */
const SELF_CHECK_LIMIT_MS = 300_000;

/** A VMM's own words for what an operator may do something about. */
const CODES: readonly ErrorCode[] = ['device-state-invalid', 'bad-option'];

export interface ControlLimits {
  readonly greetingMs?: number;
  readonly commandMs?: number;
}

/** A connection to a VMM's control socket. */
export class ControlClient extends LineClient {
  #version = '';

  /**
   * @param guest whose VMM it is, for errors
   * @throws GodwitError hypervisor-failed when nobody listens, not-seen when nobody greets in time
   */
  static async connect(
    path: string,
    guest: string,
    limits: ControlLimits = {},
  ): Promise<ControlClient> {
    const { greetingMs, commandMs } = { ...LIMITS, ...limits };
    const protocol = protocolOf(guest);
    const socket = await openInTime(path, protocol, greetingMs);
    const client = new ControlClient(socket, path, protocol, { greetingMs, commandMs });
    try {
      const { VMM: vmm } = await client.greeting('');
      client.#version = String((vmm as { version?: unknown } | null)?.version);
    } catch (error) {
      client.close();
      throw error;
    }
    return client;
  }

  /** Of the VMM, as it greets. */
  get version(): string {
    return this.#version;
  }

  override execute<Result = unknown>(command: string, given: object = {}): Promise<Result> {
    if (command !== 'self-check') return super.execute(command, given);
    return super.execute(command, given, SELF_CHECK_LIMIT_MS);
  }
}

function protocolOf(guest: string): LineProtocol {
  return {
    name: 'control protocol',
    greeting: 'VMM',
    server: `the VMM of guest ${guest}`,
    socket: 'control socket',
    maxLineBytes: MAX_LINE_BYTES,
    refusal(_, error) {
      const { class: kind, desc } = error as { class?: string; desc?: string };
      const code = CODES.find((known) => known === kind) ?? 'hypervisor-failed';
      return new CommandRefused(code, `guest ${guest}: ${desc}`, { cause: error });
    },
  };
}
