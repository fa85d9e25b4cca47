import { GodwitError } from '../../errors.ts';
import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import { poll } from '../../poll.ts';
import { LONGEST_WINDOW_MS } from '../windows.ts';
import { measuresDirtyRate } from './dirty-rate.ts';
import type { Settings } from './kept-settings.ts';
import type { QmpClient } from './qmp.ts';

/** Longest wait for QEMU to leave a migration that was ended. */
const END_LIMIT_MS = 10_000;
const POLL_MS = 5;
/** A profile whose agent has died is over in this time: its longest window and a little more. */
const MEASURING_LIMIT_MS = LONGEST_WINDOW_MS + 5_000;
/**
 * Bandwidth at which QEMU all but stands still, bytes per second; below 10 it takes it for no limit.
 * In each of its windows of 100 ms it may send a byte: 7.2 sends the head of a section and no page,
 * 10.0 one page, or looks at the dirty log once.
 */
export const STILL = 10;
/** In each window the head of a section is no obstacle, and one page is too much. */
export const CRAWL = 500;

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
/** By these QEMU slows a guest down whose migration does not get on. */
const THROTTLES = ['auto-converge', 'dirty-limit'];
/** `events` makes QEMU tell of its passes; `return-path` makes it wait for our word at the end. */
const ON = ['events', 'return-path', 'switchover-ack'];

/** `query-migrate`; without `ram` until the passes have begun. */
interface MigrationInfo {
  readonly status?: string;
  readonly ram?: {
    readonly remaining: number;
    readonly normal: number;
    readonly duplicate: number;
    readonly 'dirty-sync-count': number;
  };
  readonly 'error-desc'?: string;
}

/** Pages of a migration, at one moment. */
export interface MigrationProgress {
  /** The pass that it makes, as MIGRATION_PASS has it. */
  readonly pass: number;
  readonly pending: number;
  /** In all of its passes. */
  readonly sent: number;
}

/** Where what a QEMU was set to before is kept until it is set so again. */
export interface SettingsKeeper {
  /** What an agent that died had kept; undefined: nothing. */
  readonly before: Settings | undefined;
  /** @throws GodwitError journal-failed */
  keep(settings: Settings): void;
  forget(): void;
}

/** The migration of a source QEMU as its monitor shows it: one at a time. */
export class QemuMigration {
  readonly #qmp: QmpClient;
  readonly #before: Settings;
  readonly #keeper: SettingsKeeper | undefined;
  /** It lets us say when it may stop the guest (QEMU 8.1 and later). */
  readonly canHold: boolean;

  private constructor(qmp: QmpClient, before: Settings, keeper: SettingsKeeper | undefined) {
    this.#qmp = qmp;
    this.#before = before;
    this.#keeper = keeper;
    this.canHold = before.capabilities.some(({ capability }) => capability === 'switchover-ack');
  }

  /**
   * Sets what our migration needs, and remembers what was set before; with a keeper, also for the next
   * run of an agent that dies.
   * @throws GodwitError guest-busy while another migration or a measurement runs; hypervisor-failed for what the agents
   *   cannot carry; journal-failed
   */
  static async prepare(qmp: QmpClient, keeper?: SettingsKeeper): Promise<QemuMigration> {
    await Promise.all([requireIdle(qmp), requireUnmeasured(qmp)]);
    const [found] = await Promise.all([settingsOf(qmp), requireDescription(qmp)]);
    requireCarriable(found);
    const before = keeper?.before ?? found;
    keeper?.keep(before);
    const migration = new QemuMigration(qmp, before, keeper);
    await migration.#set(OFF, ON);
    // A pass shorter than this ends the passes; what holds it off is `canHold` or the guest's writes.
    await qmp.execute('migrate-set-parameters', { 'downtime-limit': 1, 'max-bandwidth': 0 });
    return migration;
  }

  /** It does not slow the guest down, whatever QEMU is set to; before it is begun. */
  async sparesGuest(): Promise<void> {
    await this.#set(THROTTLES, []);
  }

  /** Begins it. */
  async start(path: string): Promise<void> {
    await this.#qmp.execute('migrate', { uri: `unix:${path}` });
  }

  /** Lets QEMU stop the guest whatever is left to be sent. */
  async force(): Promise<void> {
    await this.#qmp.execute('migrate-set-parameters', { 'downtime-limit': 2_000_000 });
  }

  /** Bytes per second at which QEMU pushes; 0: no limit. */
  async limitBandwidth(bytesPerSecond: number): Promise<void> {
    await this.#qmp.execute('migrate-set-parameters', { 'max-bandwidth': bytesPerSecond });
  }

  /** Pages that QEMU has still to send; undefined before its first pass. */
  async pendingPages(): Promise<number | undefined> {
    const { ram } = await query(this.#qmp);
    return ram && Math.ceil(ram.remaining / PAGE_SIZE);
  }

  /** How far it is; undefined before its first pass. */
  async progress(): Promise<MigrationProgress | undefined> {
    const { ram } = await query(this.#qmp);
    if (ram === undefined) return undefined;
    return {
      pass: ram['dirty-sync-count'],
      pending: Math.ceil(ram.remaining / PAGE_SIZE),
      sent: ram.normal + ram.duplicate,
    };
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
    await restoreSettings(this.#qmp, this.#before);
    this.#keeper?.forget();
  }

  /** QEMU has ended, or is about to: nothing of it has to be as it was. */
  forget(): void {
    this.#keeper?.forget();
  }

  /** Those of them that this QEMU knows. */
  async #set(off: readonly string[], on: readonly string[]): Promise<void> {
    const known = new Set(this.#before.capabilities.map(({ capability }) => capability));
    const wanted = [
      ...off.map((capability) => ({ capability, state: false })),
      ...on.map((capability) => ({ capability, state: true })),
    ];
    const capabilities = wanted.filter(({ capability }) => known.has(capability));
    await this.#qmp.execute('migrate-set-capabilities', { capabilities });
  }
}

async function settingsOf(qmp: QmpClient): Promise<Settings> {
  const [capabilities, parameters] = await Promise.all([
    qmp.execute<Settings['capabilities']>('query-migrate-capabilities'),
    qmp.execute<Settings['parameters']>('query-migrate-parameters'),
  ]);
  return { capabilities, parameters };
}

/**
 * Sets what our migrations change to what it was before one, once nothing is under way.
 * @throws GodwitError guest-busy while something is
 */
export async function undoSettings(qmp: QmpClient, before: Settings): Promise<void> {
  await requireIdle(qmp);
  await restoreSettings(qmp, before);
}

async function restoreSettings(qmp: QmpClient, before: Settings): Promise<void> {
  const touched = [...OFF, ...ON, ...THROTTLES];
  const capabilities = before.capabilities.filter(({ capability }) => touched.includes(capability));
  await qmp.execute('migrate-set-capabilities', { capabilities });
  const { 'downtime-limit': downtime, 'max-bandwidth': bandwidth } = before.parameters;
  await qmp.execute('migrate-set-parameters', {
    'downtime-limit': downtime,
    'max-bandwidth': bandwidth,
  });
}

function query(qmp: QmpClient): Promise<MigrationInfo> {
  return qmp.execute<MigrationInfo>('query-migrate');
}

/** Once it is in none of these states any more, or after a while; without them, once nothing is under way. */
async function ended(qmp: QmpClient, states?: readonly string[]): Promise<MigrationInfo> {
  let info: MigrationInfo = {};
  await poll(END_LIMIT_MS, POLL_MS, async () => {
    info = await query(qmp);
    const { status = 'none' } = info;
    const ending = states === undefined ? !IDLE.includes(status) : states.includes(status);
    return ending ? undefined : info;
  });
  return info;
}

/** @throws GodwitError guest-busy while a migration of whomever runs */
export async function requireIdle(qmp: QmpClient): Promise<void> {
  const { status = 'none' } = await ended(qmp, ['cancelling']);
  if (IDLE.includes(status)) return;
  throw new GodwitError('guest-busy', `QEMU is migrating the guest already (${status})`);
}

/** A measurement of somebody's may have the dirty log, and cannot be ended. */
async function requireUnmeasured(qmp: QmpClient): Promise<void> {
  const over = async () => ((await measuresDirtyRate(qmp)) ? undefined : true);
  if (await poll(MEASURING_LIMIT_MS, POLL_MS, over)) return;
  throw new GodwitError('guest-busy', "QEMU measures the guest's dirty rate, for somebody else");
}

function requireCarriable({ capabilities, parameters }: Settings): void {
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
