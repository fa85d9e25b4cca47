import { GodwitError } from '../../errors.ts';
import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import type { SeenWindow } from '../../memory/working-set.ts';
import { poll } from '../../poll.ts';
import { CommandRefused } from '../line-client.ts';
import type { WindowMeter } from '../windows.ts';
import type { QmpClient } from './qmp.ts';

/** A thread of QEMU's reads and hashes its sample twice; a machine under load gets more. */
const LATE_LIMIT_MS = 10_000;
const POLL_MS = 10;

/** 256 MiB to be hashed at either end of a window, about a tenth of a second of one core. */
const SAMPLE_PAGES = 65_536;
/** What QEMU allows for a GiB of the guest. */
const SAMPLES_OF_GIB = { min: 128, max: 16_384 };
const GIB = 2 ** 30;
const PAGES_OF_MIB = 2 ** 20 / PAGE_SIZE;

/** `query-dirty-rate`; the rate is in MiB/s, cut off, and negative when nothing could be sampled. */
interface DirtyRateInfo {
  readonly status: 'unstarted' | 'measuring' | 'measured';
  readonly 'dirty-rate'?: number;
  /** In the unit that was asked for. */
  readonly 'calc-time': number;
}

/** Whether a measurement is under way, for whomever. */
export async function measuresDirtyRate(qmp: QmpClient): Promise<boolean> {
  try {
    return (await qmp.execute<DirtyRateInfo>('query-dirty-rate')).status === 'measuring';
  } catch (error) {
    if (error instanceof CommandRefused) return false; // it has no such thing
    throw error;
  }
}

/**
 * QEMU's measurement of what its guest changes (`calc-dirty-rate`), by sampled pages. The other modes
 * are left alone: they take the dirty log, which a migration needs clean, and without KVM there is
 * nothing that they could count. QEMU 10.0 then says 0, and 7.2 dies of it, and the guest with it.
 */
export class DirtyRate implements WindowMeter {
  readonly #qmp: QmpClient;
  readonly #samples: number;
  /** QEMU before 8.2 measures whole seconds only. */
  readonly #inMs: boolean;

  constructor(qmp: QmpClient, memoryBytes: number) {
    const [major = 0, minor = 0] = qmp.version.split('.').map(Number);
    const { min, max } = SAMPLES_OF_GIB;
    this.#qmp = qmp;
    this.#samples = Math.min(max, Math.max(min, Math.floor((SAMPLE_PAGES * GIB) / memoryBytes)));
    this.#inMs = major > 8 || (major === 8 && minor >= 2);
  }

  get shortestMs(): number {
    return this.#inMs ? 100 : 1000;
  }

  async measure(ms: number): Promise<SeenWindow> {
    const unit = this.#inMs ? { 'calc-time-unit': 'millisecond' } : {};
    if (await measuresDirtyRate(this.#qmp))
      throw new GodwitError(
        'guest-busy',
        "QEMU measures the guest's dirty rate, for somebody else",
      );
    await this.#qmp.execute('calc-dirty-rate', {
      'calc-time': this.#inMs ? ms : ms / 1000,
      ...unit,
      mode: 'page-sampling',
      'sample-pages': this.#samples,
    });
    const query = () => this.#qmp.execute<DirtyRateInfo>('query-dirty-rate', unit);
    await poll(ms + LATE_LIMIT_MS, POLL_MS, async () => {
      return (await query()).status === 'measured' ? true : undefined;
    });
    // QEMU looks at the rate before the status: the one that comes with the news may be the old one.
    const { status, 'dirty-rate': rate = -1, 'calc-time': time } = await query();
    if (status !== 'measured' || rate < 0)
      throw new GodwitError('hypervisor-failed', "QEMU did not measure the guest's dirty rate");
    const measuredMs = this.#inMs ? time : ms;
    return { ms: measuredMs, pages: Math.round((rate * PAGES_OF_MIB * measuredMs) / 1000) };
  }
}
