import { setTimeout as sleep } from 'node:timers/promises';
import { GodwitError } from '../../errors.ts';
import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import type { QmpClient } from './qmp.ts';

/** Longest wait for QEMU to leave a migration that was ended. */
const END_LIMIT_MS = 10_000;
const POLL_MS = 5;

/** MigrationStatus of QEMU's qapi/migration.json in which nothing is under way. */
const IDLE = ['none', 'cancelled', 'failed', 'completed'];

/** What the agents cannot carry: refused by name, for the operator to turn off or to do without. */
const REFUSED: Readonly<Record<string, string>> = {
  'rdma-pin-all': 'RDMA',
  'x-colo': 'COLO',
  'background-snapshot': 'background snapshots',
  'mapped-ram': 'mapped-ram files',
  'dirty-bitmaps': 'dirty bitmaps of block devices',
  block: "QEMU's own copy of block devices",
};

/** Turned off for our migration: the agents do it themselves, or the stream would hold no pages. */
const OFF = [
  ...['xbzrle', 'compress', 'multifd', 'zero-copy-send', 'postcopy-ram', 'postcopy-preempt'],
  ...['postcopy-blocktime', 'release-ram', 'x-ignore-shared', 'pause-before-switchover'],
];
/** `events` makes QEMU tell of its passes; `return-path` makes it wait for our word at the end. */
const ON = ['events', 'return-path', 'switchover-ack'];

interface Capability {
  readonly capability: string;
  readonly state: boolean;
}

interface Parameters {
  readonly 'downtime-limit': number;
  readonly 'max-bandwidth': number;
  readonly 'tls-creds'?: string;
}

/** `query-migrate`; without `ram` until the passes have begun. */
interface MigrationInfo {
  readonly status?: string;
  readonly ram?: { readonly remaining: number };
  readonly 'error-desc'?: string;
}

/** The migration of a source QEMU as its monitor shows it: one at a time. */
export class QemuMigration {
  readonly #qmp: QmpClient;
  readonly #before: readonly Capability[];
  readonly #parameters: Parameters;
  /** It lets us say when it may stop the guest (QEMU 8.1 and later). */
  readonly canHold: boolean;

  private constructor(qmp: QmpClient, before: readonly Capability[], parameters: Parameters) {
    this.#qmp = qmp;
    this.#before = before;
    this.#parameters = parameters;
    this.canHold = before.some(({ capability }) => capability === 'switchover-ack');
  }

  /**
   * Sets what our migration needs, and remembers what was set before.
   * @throws GodwitError guest-busy while another migration runs; hypervisor-failed for what the agents
   *   cannot carry
   */
  static async prepare(qmp: QmpClient): Promise<QemuMigration> {
    const { status = 'none' } = await ended(qmp, ['cancelling']);
    if (!IDLE.includes(status))
      throw new GodwitError('guest-busy', `QEMU is migrating the guest already (${status})`);
    const before = await qmp.execute<Capability[]>('query-migrate-capabilities');
    const parameters = await qmp.execute<Parameters>('query-migrate-parameters');
    requireCarriable(before, parameters);
    await requireDescription(qmp);
    const migration = new QemuMigration(qmp, before, parameters);
    await migration.#set(OFF, ON);
    // A pass shorter than this ends the passes; what holds it off is `canHold` or the guest's writes.
    await qmp.execute('migrate-set-parameters', { 'downtime-limit': 1, 'max-bandwidth': 0 });
    return migration;
  }

  /** Begins it. */
  async start(path: string): Promise<void> {
    await this.#qmp.execute('migrate', { uri: `unix:${path}` });
  }

  /** Lets QEMU stop the guest whatever is left to be sent. */
  async force(): Promise<void> {
    await this.#qmp.execute('migrate-set-parameters', { 'downtime-limit': 2_000_000 });
  }

  /** Pages that QEMU has still to send; undefined before its first pass. */
  async pendingPages(): Promise<number | undefined> {
    const { ram } = await query(this.#qmp);
    return ram && Math.ceil(ram.remaining / PAGE_SIZE);
  }

  /** Why it ended, in QEMU's words. */
  async complaint(): Promise<string | undefined> {
    return (await query(this.#qmp))['error-desc'];
  }

  /** Resolves when QEMU has given the guest up. @throws GodwitError hypervisor-failed */
  async completed(): Promise<void> {
    const { status, 'error-desc': why } = await ended(this.#qmp);
    if (status === 'completed') return;
    const text = `QEMU did not give the guest up: its migration is ${status}${why ? `: ${why}` : ''}`;
    throw new GodwitError('hypervisor-failed', text);
  }

  /** Ends it if it is under way; QEMU then resumes the guest that it had suspended. */
  async cancel(): Promise<void> {
    const { status = 'none' } = await query(this.#qmp);
    if (IDLE.includes(status)) return;
    await this.#qmp.execute('migrate_cancel');
    await ended(this.#qmp);
  }

  /** Sets what was set before. */
  async restore(): Promise<void> {
    const was = (state: boolean) =>
      this.#before.filter((known) => known.state === state).map(({ capability }) => capability);
    const touched = [...OFF, ...ON];
    await this.#set(
      was(false).filter((name) => touched.includes(name)),
      was(true).filter((name) => touched.includes(name)),
    );
    const { 'downtime-limit': downtime, 'max-bandwidth': bandwidth } = this.#parameters;
    await this.#qmp.execute('migrate-set-parameters', {
      'downtime-limit': downtime,
      'max-bandwidth': bandwidth,
    });
  }

  /** Those of them that this QEMU knows. */
  async #set(off: readonly string[], on: readonly string[]): Promise<void> {
    const known = new Set(this.#before.map(({ capability }) => capability));
    const wanted = [
      ...off.map((capability) => ({ capability, state: false })),
      ...on.map((capability) => ({ capability, state: true })),
    ];
    const capabilities = wanted.filter(({ capability }) => known.has(capability));
    await this.#qmp.execute('migrate-set-capabilities', { capabilities });
  }
}

function query(qmp: QmpClient): Promise<MigrationInfo> {
  return qmp.execute<MigrationInfo>('query-migrate');
}

/** Once it is in none of these states any more, or after a while; without them, once nothing is under way. */
async function ended(qmp: QmpClient, states?: readonly string[]): Promise<MigrationInfo> {
  for (const end = performance.now() + END_LIMIT_MS; ; await sleep(POLL_MS)) {
    const info = await query(qmp);
    const { status = 'none' } = info;
    const ending = states === undefined ? !IDLE.includes(status) : states.includes(status);
    if (!ending || performance.now() > end) return info;
  }
}

function requireCarriable(capabilities: readonly Capability[], parameters: Parameters): void {
  const refuse = (what: string, how: string) =>
    new GodwitError(
      'hypervisor-failed',
      `QEMU is set up for ${what}, which Godwit cannot carry: ${how}`,
    );
  for (const { capability, state } of capabilities)
    if (state && capability in REFUSED)
      throw refuse(REFUSED[capability]!, `turn its migration capability ${capability} off`);
  if (parameters['tls-creds'])
    throw refuse('TLS', 'unset its migration parameter tls-creds; the agents encrypt on their own');
}

/** The end of the device state is known by the description that follows it. */
async function requireDescription(qmp: QmpClient): Promise<void> {
  const suppressed = await qmp
    .execute<boolean>('qom-get', { path: '/machine', property: 'suppress-vmdesc' })
    .catch(() => false);
  if (!suppressed) return;
  const text =
    'QEMU runs the guest with suppress-vmdesc=on: its device state has no end to be seen';
  throw new GodwitError('hypervisor-failed', text);
}
