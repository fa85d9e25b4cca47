import path from 'node:path';
import { GodwitError } from '../../errors.ts';
import {
  CommandRefused,
  LineClient,
  type LineProtocol,
  type Message,
  openInTime,
  shown,
} from '../line-client.ts';

/** `agent-send xl` answers as soon as its main thread turns. */
const LIMITS = { greetingMs: 5_000, commandMs: 10_000 };

const PROTOCOL: LineProtocol = {
  name: 'control protocol',
  greeting: 'xl',
  server: 'agent-send xl',
  socket: 'control socket',
  maxLineBytes: 64 << 10,
  refusal(command, error) {
    const { desc } = error as { desc?: string };
    return new CommandRefused('hypervisor-failed', `agent-send xl refused ${command}: ${desc}`);
  },
};

/** What `agent-send xl` says of itself. */
export interface TransportGreeting {
  /** Of the xl that runs it. */
  readonly xl: { readonly pid: number; readonly startTime: number };
  readonly uuid: string;
  /** xl's last message but one: it cannot be unsaid. */
  readonly said: Said;
  readonly helper: HelperState;
}

/** Of a save helper that stands between xl and Xen's own (`agent-send-helper`), as the event HELPER tells. */
export interface HelperState {
  /**
   * `asks`: libxc's rounds are over, and it waits with the suspension of the guest. `told`: it waits no more.
   * `stands`: the guest was suspended.
   */
  readonly state: 'none' | 'saves' | 'asks' | 'told' | 'stands';
  /** Rounds of libxc that have begun, and the pages that it found dirty for the last of them. */
  readonly round: number;
  readonly pages: number;
}
const HELPER_STATES = ['saves', 'asks', 'told', 'stands'] as const;
export const NO_HELPER: HelperState = { state: 'none', round: 0, pages: 0 };

/** What xl was told so far: that its stream is wanted; that it is loaded; that the guest runs there, or not. */
export type Said = 'banner' | 'ready' | 'runs' | 'denied';

/** What it does when it is told to; each may be asked again. */
export type TransportCommand =
  /** Says that everything is loaded: xl answers GO, and resumes the guest for `deny` alone. */
  | 'ready'
  /** Says that the guest runs at its destination: xl destroys its own. */
  | 'runs'
  /** Has xl resume the guest, or run it on: says so after `ready`, and ends at once before it. */
  | 'deny'
  /** Has a save helper that asks for it pass on that the guest is to be suspended. */
  | 'suspend'
  /** Ends the save while the guest runs: the helper is told to, and cleans up. */
  | 'abort';

/** Where `agent-send xl` listens, by the guest that it moves: for commands, and for who takes its stream. */
export function controlSocketOf(dir: string, guest: string): string {
  return path.join(dir, `${guest}.xl`);
}
export function streamSocketOf(control: string): string {
  return `${control}-stream`;
}

/** A connection to the `agent-send xl` of a guest. */
export class TransportClient extends LineClient {
  #greeted!: TransportGreeting;
  #helper = NO_HELPER;

  /** @throws GodwitError hypervisor-failed when nobody listens, not-seen when nobody greets in time */
  static async connect(socketPath: string): Promise<TransportClient> {
    const socket = await openInTime(socketPath, PROTOCOL, LIMITS.greetingMs);
    const client = new TransportClient(socket, socketPath, PROTOCOL, LIMITS);
    let told = false;
    client.on('HELPER', ({ data }) => {
      told = true;
      client.#helper = helperOf(data);
    });
    try {
      client.#greeted = greetingOf(await client.greeting(''));
      if (!told) client.#helper = client.#greeted.helper;
      return client;
    } catch (error) {
      client.close();
      throw error;
    }
  }

  get greeted(): TransportGreeting {
    return this.#greeted;
  }

  /** As it was told last. */
  get helper(): HelperState {
    return this.#helper;
  }

  async tell(command: TransportCommand): Promise<void> {
    await this.execute(command);
  }
}

function helperOf(data: unknown): HelperState {
  const { state, round, pages } = (data ?? {}) as Partial<Record<string, unknown>>;
  const known = HELPER_STATES.find((one) => one === state);
  if (known === undefined || !Number.isInteger(round) || !Number.isInteger(pages)) return NO_HELPER;
  return { state: known, round: round as number, pages: pages as number };
}

function greetingOf(message: Message): TransportGreeting {
  const { xl, uuid, said, helper } = message as Partial<Record<string, unknown>>;
  const { pid, startTime } = (xl ?? {}) as Record<string, unknown>;
  if (Number.isInteger(pid) && Number.isInteger(startTime) && typeof uuid === 'string')
    return {
      xl: { pid: pid as number, startTime: startTime as number },
      uuid,
      said: said as Said,
      helper: helperOf(helper),
    };
  const text = `agent-send xl greets as none does: ${shown(JSON.stringify(message))}`;
  throw new GodwitError('hypervisor-failed', text);
}
