import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { SenderBackend } from '../../lib/api/backend.ts';
import type { Figures } from '../../lib/api/metrics.ts';
import { Tally } from '../../lib/api/tally.ts';
import { GodwitError } from '../../lib/errors.ts';
import type { EvacuationView } from '../../lib/evacuation/view.ts';
import type { Profiling } from '../../lib/guest/profile.ts';
import type { CheckView } from '../../lib/migration/check/view.ts';
import type {
  GuestView,
  LimitsPatch,
  MigrationRequest,
  MigrationView,
} from '../../lib/migration/view.ts';
import { type Choice, type Dilemma, sourceDilemma } from '../../lib/ownership/decision.ts';
import { policyLimits } from '../../lib/precopy/limits.ts';
import type { GuestProfile } from '../../lib/precopy/profile.ts';
import type { ForetoldRecord, TrackRecord } from '../../lib/precopy/track-record.ts';
import type { HistoryFilter, PastMigration } from '../../lib/report/history.ts';

export const A_TRACK_RECORD: TrackRecord = {
  ...{ hypervisor: 'qemu', peer: 'hostb:7070', moved: 40, rolledBack: 2 },
  ...{ medianError: 0.08, ninthError: 0.21, inside: 0.925 },
};

export const A_FORETOLD_RECORD: ForetoldRecord = {
  ...{ hypervisor: 'qemu', peer: 'hostb:7070', moved: 12, misjudged: 1 },
  total: { medianError: 0.14, ninthError: 0.4, inside: 0.92 },
  suspension: { medianError: 0.2, ninthError: 0.5, inside: 0.83 },
};

export const LIMITS = {
  maxSuspendMs: 300,
  timeoutMs: undefined,
  prefer: 'workload',
  pauseBelowMs: undefined,
  abortAboveMs: undefined,
  maxIters: 5,
  minRemaining: 50,
} as const;

export const A_PAST_MIGRATION: PastMigration = {
  ...{ id: '4f2a000000000001', guest: 'vm1', time: '2026-01-02T03:04:05.000Z' },
  ...{ source: 'hosta', destination: 'hostb:7070', by: 'root', outcome: 'aborted' },
  ...{ code: 'policy-abort', message: 'it dirties too fast', ms: 5000 },
  ...{ suspensionMs: undefined, limitMs: undefined, wireBytes: 1000 },
};

export const FIGURES: Omit<Figures, 'tally'> = {
  ...{ role: 'send', version: '0.1.0', states: ['precopy', 'committed', 'released'] },
  ...{ refused: undefined, expiries: [] },
};

export const AN_EVACUATION: EvacuationView = {
  ...{ id: '5e00000000000001', source: 'hosta', startedAt: '2026-01-02T03:04:05.000Z' },
  ...{ destinations: ['hostb:7070', 'hostc:7070'], guests: ['vm1', 'vm2', 'vm3'], parallel: 2 },
  ...{ bandwidth: 125e6, order: 'smallest', retryUpToMs: 2000, by: 'root', cancelled: false },
  move: { policy: 'contract', limits: { maxSuspendMs: 300 }, compression: 'auto', verify: false },
  leaving: [
    {
      ...{ name: 'vm1', memoryBytes: 2 ** 26, tries: 2, troubles: 1, detours: 1, raisedMs: [800] },
      ...{ refused: [], migration: '4f2a000000000000', destination: 'hostc:7070' },
      end: {
        ...{ at: '2026-01-02T03:04:25.000Z', outcome: 'completed', ms: 20_000 },
        ...{ suspensionMs: 47, limitMs: 800, wireBytes: 2 ** 25 },
      },
    },
    {
      ...{ name: 'vm2', memoryBytes: 2 ** 30, tries: 1, troubles: 0, detours: 0, raisedMs: [] },
      refused: [{ destination: 'hostb:7070', code: 'memory-insufficient', message: 'no room' }],
      ...{ migration: '4f2a000000000001', destination: 'hostc:7070' },
    },
    {
      name: 'vm3',
      tries: 0,
      troubles: 0,
      detours: 0,
      raisedMs: [],
      refused: [],
      waitsFor: 'a while',
    },
  ],
  leftOut: [{ name: 'vm9', why: 'it has panicked' }],
  moving: ['vm2'],
};

export const A_PROFILE: GuestProfile = {
  guest: 'vm1',
  time: '2026-01-02T03:04:05.000Z',
  ms: 1000,
  totalPages: 262_144,
  workingSet: [
    { windowMs: 100, pages: 480, high: 520 },
    { windowMs: 200, pages: 900, high: 980 },
    { windowMs: 1000, pages: 2600, high: 2600 },
  ],
  zeroShare: 0.3,
  compressedShare: 0.48,
  dirtyRate: 4790,
  method: 'dirty-log',
};

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
    disks: undefined,
    diskBytes: 0,
    wireBytes: 512 * 2 ** 20,
    outageMs: undefined,
    reconnects: 0,
    wireRate: 100 * 2 ** 20,
    drainRate: 200 * 2 ** 20,
    dirtyRate: 4800,
    dirtyPages: 5120,
    foretold: undefined,
    estimate: { low: 30, expected: 42, high: 61, fixed: 12, after: 8, reserve: 32 },
    verdict: { action: 'continue', reason: 'the remaining set still shrinks' },
    hold: undefined,
    policy: 'contract',
    limits: LIMITS,
    bandwidth: undefined,
    suspendBandwidth: undefined,
    encodings: { zero: 1, raw: 2, same: 3, delta: 4, copy: 5 },
    outcome: undefined,
    code: undefined,
    message: undefined,
    enoughMs: undefined,
    suspension: undefined,
    waitsFor: undefined,
    ownership: undefined,
    guestState: undefined,
    decision: undefined,
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
  /** Of the client that waits for a profile; the profile goes on until it ends. */
  profiled: AbortSignal | undefined;
  readonly profileEnds = Promise.withResolvers<void>();
  /** The one that there is. */
  evacuation: EvacuationView | undefined = AN_EVACUATION;
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

  readonly evacuations: SenderBackend['evacuations'] = {
    view: () => this.evacuation,
    begin: async (request) => {
      this.calls.push(['evacuate', request]);
      return AN_EVACUATION;
    },
    plan: async (request) => {
      this.calls.push(['plan', request]);
      const { leaving, leftOut } = AN_EVACUATION;
      return { leaving: leaving.map(({ name, refused }) => ({ name, refused })), leftOut };
    },
    cancel: async () => {
      this.calls.push(['cancel evacuation']);
      this.evacuation = AN_EVACUATION;
      return AN_EVACUATION;
    },
  };

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

  async resolve(id: string, choice: Choice, by: string): Promise<MigrationView> {
    this.calls.push(['resolve', id, choice, by]);
    return this.show(id);
  }

  watch(id: string, listener: (view: MigrationView) => void): () => void {
    listener(this.show(id));
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  figures(): Figures {
    const figures = { ...FIGURES, role: this.role, tally: new Tally() };
    for (let i = 0; i < 3; i++) figures.tally.add(ended('completed'));
    return figures;
  }

  async start(request: MigrationRequest): Promise<MigrationView> {
    if (this.refuseStart !== undefined) throw this.refuseStart;
    this.calls.push(['start', request]);
    return this.#view;
  }

  async check(request: MigrationRequest): Promise<CheckView> {
    this.calls.push(['check', request]);
    const { guest, policy } = request;
    const nothing = { findings: [], way: undefined, forecast: undefined };
    const limits = policyLimits(policy, request.limits);
    return { guest, destination: 'hostb:7070', policy, limits, ...nothing, expected: 'unknown' };
  }

  change(id: string, patch: LimitsPatch): MigrationView {
    this.calls.push(['change', id, patch]);
    return this.show(id);
  }

  cutover(id: string, force: boolean): MigrationView {
    this.calls.push(force ? ['cutover', id, 'force'] : ['cutover', id]);
    return this.show(id);
  }

  foretoldRecords(): ForetoldRecord[] {
    return [A_FORETOLD_RECORD];
  }

  trackRecords(): TrackRecord[] {
    return [A_TRACK_RECORD];
  }

  async guests(): Promise<GuestView[]> {
    return [
      { name: 'vm1', hypervisor: 'simulated', state: 'running', memoryBytes: 2 ** 30 },
      { name: 'vm2', hypervisor: 'qemu', trouble: 'QEMU has not answered within 1.00 s' },
      { name: 'vm3', hypervisor: 'qemu', state: 'io-error', memoryBytes: 2 ** 31 },
    ];
  }

  async profile(guest: string, profiling: Profiling): Promise<GuestProfile> {
    const { ms, rehearsal, signal, onProgress } = profiling;
    this.calls.push(['profile', guest, ms, ...(rehearsal === undefined ? [] : [rehearsal])]);
    this.newestProfile(guest);
    onProgress({ elapsedMs: 100, ms, windowMs: 100, pages: 480 });
    this.profiled = signal;
    await this.profileEnds.promise;
    return A_PROFILE;
  }

  endProfile(guest: string): void {
    this.calls.push(['endProfile', guest]);
    this.profileEnds.promise.catch(() => {}); // nobody may wait for it
    this.profileEnds.reject(
      new GodwitError('cancelled', `the profile of guest ${guest} was ended`),
    );
  }

  newestProfile(guest: string): GuestProfile {
    if (guest === A_PROFILE.guest) return A_PROFILE;
    throw new GodwitError('unknown-profile', `no profile of guest ${guest} is kept; take one`);
  }

  async history(filter: HistoryFilter): Promise<PastMigration[]> {
    this.calls.push(['history', filter]);
    return [A_PAST_MIGRATION];
  }

  ledgerFile(id: string): string {
    return path.join(this.dir, `${this.show(id).id}.ndjson`);
  }
}
