import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { SenderBackend } from '../../lib/control/backend.ts';
import type {
  GuestView,
  LimitsPatch,
  MigrationRequest,
  MigrationView,
} from '../../lib/control/view.ts';
import { GodwitError } from '../../lib/errors.ts';
import { type Choice, type Dilemma, sourceDilemma } from '../../lib/handover/resolve.ts';

export const LIMITS = {
  maxSuspendMs: 300,
  timeoutMs: undefined,
  prefer: 'workload',
  pauseBelowMs: undefined,
  abortAboveMs: undefined,
  maxIters: 5,
  minRemaining: 50,
} as const;

/** A migration in its second round; `over` changes what a test is about. */
export function aView(over: Partial<MigrationView> = {}): MigrationView {
  return {
    id: '4f2a000000000001',
    role: 'send',
    guest: 'vm1',
    peer: 'hostb:7070',
    phase: 'precopy',
    startedAt: '2026-01-02T03:04:05.000Z',
    elapsedMs: 2500,
    totalPages: 262_144,
    round: 2,
    roundPages: 5000,
    roundSent: 2500,
    pagesSent: 264_644,
    wireBytes: 512 * 2 ** 20,
    wireRate: 100 * 2 ** 20,
    drainRate: 200 * 2 ** 20,
    dirtyRate: 4800,
    dirtyPages: 5120,
    estimate: { low: 30, expected: 42, high: 61, fixed: 12 },
    verdict: { action: 'continue', reason: 'the remaining set still shrinks' },
    policy: 'contract',
    limits: LIMITS,
    bandwidth: undefined,
    encodings: { zero: 1, raw: 2, same: 3, delta: 4, copy: 5 },
    outcome: undefined,
    code: undefined,
    message: undefined,
    suspension: undefined,
    waitsFor: undefined,
    ...over,
  };
}

/** How it looks when it has ended. */
export function ended(outcome: MigrationView['outcome'], over: Partial<MigrationView> = {}) {
  return aView({ phase: 'ended', outcome, ...over });
}

/** A daemon without migrations of its own: it shows what a test puts in and remembers its calls. */
export class FakeBackend implements SenderBackend {
  readonly role: 'send' | 'receive';
  readonly dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-control-'));
  readonly calls: unknown[][] = [];
  /** Thrown by `start` instead of an answer. */
  refuseStart: Error | undefined;
  #view: MigrationView;
  readonly #listeners = new Set<(view: MigrationView) => void>();

  constructor(view: MigrationView = aView(), role: 'send' | 'receive' = 'send') {
    this.role = role;
    this.#view = view;
  }

  get socket(): string {
    return path.join(this.dir, 'agent.sock');
  }

  get watchers(): number {
    return this.#listeners.size;
  }

  /** The migration has moved on. */
  becomes(view: MigrationView): void {
    this.#view = view;
    for (const listener of this.#listeners) listener(view);
  }

  remove(): void {
    fs.rmSync(this.dir, { recursive: true, force: true });
  }

  list(): MigrationView[] {
    return [this.#view];
  }

  show(id: string): MigrationView {
    if (id !== '' && this.#view.id.startsWith(id)) return this.#view;
    throw new GodwitError('unknown-migration', `no migration "${id}"; see list`);
  }

  cancel(id: string): MigrationView {
    this.show(id);
    this.calls.push(['cancel', id]);
    if (this.#view.phase === 'ended') throw new GodwitError('too-late', 'it has ended');
    this.becomes(ended('cancelled', { code: 'cancelled', message: 'the migration was cancelled' }));
    return this.#view;
  }

  dilemma(id: string): Dilemma {
    this.show(id);
    return sourceDilemma('committed');
  }

  async resolve(id: string, choice: Choice): Promise<MigrationView> {
    this.calls.push(['resolve', id, choice]);
    return this.show(id);
  }

  watch(id: string, listener: (view: MigrationView) => void): () => void {
    listener(this.show(id));
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  totals(): Readonly<Record<string, number>> {
    return { completed: 3 };
  }

  async start(request: MigrationRequest): Promise<MigrationView> {
    if (this.refuseStart !== undefined) throw this.refuseStart;
    this.calls.push(['start', request]);
    return this.#view;
  }

  change(id: string, patch: LimitsPatch): MigrationView {
    this.calls.push(['change', id, patch]);
    return this.show(id);
  }

  cutover(id: string): MigrationView {
    this.calls.push(['cutover', id]);
    return this.show(id);
  }

  async guests(): Promise<GuestView[]> {
    return [{ name: 'vm1', hypervisor: 'simulated', status: 'running', memoryBytes: 2 ** 30 }];
  }

  ledgerFile(id: string): string {
    return path.join(this.dir, `${this.show(id).id}.ndjson`);
  }
}
