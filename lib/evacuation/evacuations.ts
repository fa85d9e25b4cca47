import { randomBytes } from 'node:crypto';
import os from 'node:os';
import { GodwitError } from '../errors.ts';
import { log } from '../log.ts';
import { formatSize } from '../units.ts';
import { parseAddress } from '../wire/address.ts';
import { ask, Evacuation } from './evacuation.ts';
import { chosen, plan } from './plan.ts';
import type { Site } from './site.ts';
import type { EvacuationStore } from './store.ts';
import type {
  EvacuationPlan,
  EvacuationRecord,
  EvacuationRequest,
  EvacuationView,
  PlannedGuest,
} from './view.ts';

/**
 * The evacuation of an agent: one is open at a time, so that no guest is in two of them and one budget
 * is all that a link is shared by.
 */
export class Evacuations {
  readonly #site: Site;
  readonly #store: EvacuationStore;
  #newest: Evacuation | undefined;
  /** Another one is about to begin. */
  #beginning = false;
  #stopped = false;

  constructor(store: EvacuationStore, site: Site) {
    this.#site = site;
    this.#store = store;
    if (store.kept !== undefined) this.#newest = new Evacuation(store.kept, site, store);
  }

  /** Goes on with what an earlier run has left; its open migrations are known by now. */
  resume(): void {
    if (!this.#newest?.isOpen) return;
    log('info', 'the evacuation of an earlier run goes on', this.#newest.view().id);
    this.#newest.go();
  }

  /** The open one, or else the last. */
  view(): EvacuationView | undefined {
    return this.#newest?.view();
  }

  /**
   * @returns when it is on the disk; guests begin to leave
   * @throws GodwitError evacuation-open, unknown-guest, bad-option, journal-failed, shutting-down
   */
  async begin(request: EvacuationRequest): Promise<EvacuationView> {
    if (this.#stopped) throw new GodwitError('shutting-down', 'agent-send is shutting down');
    this.#requireNone();
    this.#beginning = true;
    try {
      const record = await this.#recordOf(request);
      await this.#store.write(record).catch((cause: Error) => {
        const text = `the evacuation cannot be kept, so it is not begun: ${cause.message}`;
        throw new GodwitError('journal-failed', text, { cause });
      });
      this.#newest = new Evacuation(record, this.#site, this.#store);
      log('info', beginning(record), record.id);
      if (!this.#stopped) this.#newest.go();
      return this.#newest.view();
    } finally {
      this.#beginning = false;
    }
  }

  /** What it would begin with; nothing is moved, and nothing kept. @throws GodwitError as `begin` */
  async plan(request: EvacuationRequest): Promise<EvacuationPlan> {
    const { leaving, leftOut, destinations, move } = await this.#recordOf(request);
    const planned: PlannedGuest[] = [];
    for (const guest of leaving) {
      const { name } = guest;
      const answers = (destination: string) =>
        ask(this.#site, { ...move, ...parseAddress(destination), guest: name }, destination);
      planned.push(await plan(guest, destinations, answers));
    }
    return { leaving: planned, leftOut };
  }

  /** @throws GodwitError too-late, journal-failed */
  async cancel(): Promise<EvacuationView> {
    if (this.#newest === undefined)
      throw new GodwitError('too-late', 'there is no evacuation to cancel');
    await this.#newest.cancel();
    return this.#newest.view();
  }

  /** The agent stops; called before its migrations are cancelled. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#newest?.stop();
  }

  #requireNone(): void {
    const open = this.#newest?.isOpen ? this.#newest.view() : undefined;
    if (open === undefined && !this.#beginning) return;
    const since = open === undefined ? '' : `, since ${open.startedAt}`;
    const text = `an evacuation of this host is open${since}; "agent-send evacuate" shows it, --cancel ends it`;
    throw new GodwitError('evacuation-open', text);
  }

  async #recordOf(request: EvacuationRequest): Promise<EvacuationRecord> {
    const here = await this.#site.guests();
    const { leaving, leftOut } = chosen(here, request, (guest) => this.#site.profile(guest));
    return {
      ...request,
      id: randomBytes(8).toString('hex'),
      source: os.hostname(),
      startedAt: new Date().toISOString(),
      cancelled: false,
      leaving,
      leftOut,
    };
  }
}

function beginning({
  by = 'somebody',
  leaving,
  destinations,
  parallel,
  bandwidth,
}: EvacuationRecord) {
  const bytes = leaving.reduce((sum, { memoryBytes = 0 }) => sum + memoryBytes, 0);
  const rate = bandwidth === undefined ? '' : `, ${formatSize(bandwidth)}/s for all`;
  return `${by} evacuates ${leaving.length} guests (${formatSize(bytes)}) to ${destinations.join(', ')}: ${parallel} at once${rate}`;
}
