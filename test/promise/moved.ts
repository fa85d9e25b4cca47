import type { CheckView } from '../../lib/migration/check/view.ts';
import type { MigrationView } from '../../lib/migration/view.ts';
import { limitFor } from '../../lib/precopy/fit.ts';
import { parseLedger } from '../../lib/report/ledger.ts';
import type { LedgerRecord, Outcome, SuspensionRecord } from '../../lib/report/records.ts';
import type { Host } from '../e2e/host.ts';

/** What is asked for, and what goes on beside it. */
export interface Asked {
  readonly kind: 'simulated' | 'qemu';
  /** The guest, in words. */
  readonly what: string;
  readonly limitMs: number;
  /** The command line, the limit first. */
  readonly options: readonly string[];
  /** Somebody else keeps a core of the machine busy. */
  readonly busyMachine: boolean;
}

/** What `check` has said before, ms; undefined where it could not tell. */
export interface Foretold {
  readonly verdict: CheckView['expected'];
  readonly totalMs: Likely | undefined;
  readonly suspensionMs: Likely | undefined;
}

export interface Likely {
  readonly low: number;
  readonly expected: number;
  readonly high: number;
}

/** How one move went. */
export interface Moved {
  readonly asked: Asked;
  readonly foretold: Foretold | undefined;
  readonly outcome: Outcome;
  readonly code: string | undefined;
  readonly message: string | undefined;
  /** The whole move, ms. */
  readonly ms: number;
  /** The longest suspension that the guest saw, wherever it ran afterwards, ms; 0: none. */
  readonly guestMs: number;
  /** As the agents have it; undefined when the guest was never suspended. */
  readonly suspension: SuspensionRecord | undefined;
  /** What was said to be enough, and whether it was when it was tried; undefined when nothing was said. */
  readonly enough: { readonly ms: number; readonly moved: boolean } | undefined;
}

/** The guest stood still longer than was allowed, by its own heartbeat. */
export function isOver({ asked, guestMs }: Moved): boolean {
  return guestMs > asked.limitMs;
}

/** It was rolled back although even the high end of its forecast fitted the limit. */
export function isUnforeseen({ asked, code, suspension }: Moved): boolean {
  const { after = 0, reserve = 0, high = Infinity } = suspension?.estimate ?? {};
  return code === 'suspension-limit' && limitFor(high, { after, reserve }) <= asked.limitMs;
}

/** Nothing that moves in here takes longer, even on a busy machine. */
const MOVE_BOUND = ['--timeout', '60s'];
/** So long is a guest looked at before its check. */
const PROFILE = ['--for', '1s'];

/** The moves of a guest as an operator would make them: look, check, move, and again with what was said to be enough. */
export class Mover {
  readonly #asked: Asked;
  readonly #from: Host;
  readonly #to: Host;

  constructor(asked: Asked, from: Host, to: Host) {
    this.#asked = asked;
    this.#from = from;
    this.#to = to;
  }

  async foretell(): Promise<Foretold> {
    await this.#from.run(['profile', GUEST, ...PROFILE, '--json']);
    const { options } = this.#asked;
    const { stdout, stderr } = await this.#from.run([
      ...['check', GUEST, this.#to.target, '--json', ...options, ...MOVE_BOUND],
    ]);
    if (!stdout.startsWith('{')) throw new Error(`check: ${stdout}${stderr}`);
    const { expected, forecast } = JSON.parse(stdout) as CheckView;
    const { totalMs, suspensionMs, verdict } = forecast ?? {};
    const known = verdict === undefined || verdict === 'unknown' ? undefined : suspensionMs;
    return { verdict: expected, totalMs: likely(totalMs), suspensionMs: likely(known) };
  }

  /** @param limitMs another one than was asked for */
  async move(limitMs = this.#asked.limitMs): Promise<MigrationView> {
    const [option, , ...rest] = this.#asked.options;
    const options = [option!, `${Math.ceil(limitMs)}ms`, ...rest, ...MOVE_BOUND];
    return this.#from.migrate(this.#to, options);
  }

  async ledgerOf({ id }: MigrationView): Promise<readonly LedgerRecord[]> {
    return parseLedger(await this.#from.client('send').text(`/migrations/${id}/ledger`), id);
  }
}

export const GUEST = 'vm1';

/** Where no likeliest case is told, it is taken for the middle. */
function likely(span: (Omit<Likely, 'expected'> & Partial<Likely>) | undefined) {
  return span && { ...span, expected: span.expected ?? (span.low + span.high) / 2 };
}
