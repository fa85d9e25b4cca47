import { asGodwitError, GodwitError } from '../errors.ts';
import { log } from '../log.ts';
import { isOver } from '../migration/standing.ts';
import type { MigrationRequest, MigrationView } from '../migration/view.ts';
import type { PastMigration } from '../report/history.ts';
import { plural } from '../report/words.ts';
import { parseAddress } from '../wire/address.ts';
import { Places } from './places.ts';
import type { Answer } from './plan.ts';
import { type Attempt, destinationFor, due, limitOf, settled, worstOf } from './queue.ts';
import { SharedLink } from './shared-link.ts';
import type { Site } from './site.ts';
import type { EvacuationStore } from './store.ts';
import type { EvacuationRecord, EvacuationView, GuestEnd, Leaving } from './view.ts';

/**
 * One evacuation: a queue of guests that is worked off. What has come of each guest is on the disk;
 * everything else is found out anew, so that the next run of the agent can go on.
 */
export class Evacuation {
  readonly #site: Site;
  readonly #store: EvacuationStore;
  readonly #link: SharedLink;
  #record: EvacuationRecord;
  readonly #busy = new Set<string>();
  readonly #resting = new Map<string, NodeJS.Timeout>();
  readonly #beginnings = new Places(BEGINNINGS);
  readonly #cancelled = Promise.withResolvers<undefined>();
  #stopped = false;

  constructor(record: EvacuationRecord, site: Site, store: EvacuationStore) {
    const { bandwidth, parallel, move } = record;
    this.#record = record;
    this.#site = site;
    this.#store = store;
    this.#link = new SharedLink(bandwidth, parallel, move.suspendBandwidth);
    if (record.cancelled) this.#cancelled.resolve(undefined);
  }

  get isOpen(): boolean {
    return this.#record.endedAt === undefined;
  }

  view(): EvacuationView {
    const record = this.#record;
    return {
      ...record,
      moving: [...this.#busy],
      outcome: this.isOpen ? undefined : worstOf(record),
    };
  }

  /** Begins what is due; everything else follows. */
  go(): void {
    if (this.#stopped || !this.isOpen) return;
    for (const name of due(this.#record, this.#busy, new Set(this.#resting.keys()))) {
      this.#busy.add(name);
      void this.#carry(name);
    }
    if (worstOf(this.#record) !== undefined) this.#end();
  }

  /** Nothing more is begun, and what may still be cancelled is. @throws GodwitError too-late, journal-failed */
  async cancel(): Promise<void> {
    const { id } = this.#record;
    if (!this.isOpen) throw new GodwitError('too-late', `evacuation ${id} has ended`);
    log('info', 'the evacuation is cancelled; guests that are not given away stay', id);
    const cancelled = { ...this.#record, cancelled: true };
    await this.#store.write(cancelled).catch((cause: Error) => {
      throw new GodwitError('journal-failed', `it cannot be kept: ${cause.message}`, { cause });
    });
    this.#keep({ ...this.#record, cancelled: true }); // with what has come meanwhile
    this.#cancelled.resolve(undefined);
    for (const name of this.#busy) this.#cancelMove(name);
    for (const timer of this.#resting.values()) clearTimeout(timer);
    this.#resting.clear();
    this.go();
  }

  #cancelMove(name: string): void {
    const open = this.#site.open(name);
    // One that somebody else has begun is theirs.
    if (open === undefined || open.id !== this.#guest(name).migration) return;
    try {
      this.#site.cancel(open.id);
    } catch (thrown) {
      log('info', `${name}: ${asGodwitError(thrown).message}`, this.#record.id);
    }
  }

  /** The agent stops: what its migrations end with is no outcome, and the next run goes on. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const timer of this.#resting.values()) clearTimeout(timer);
    await this.#store.idle();
  }

  /** One attempt with one guest; never rejects. */
  async #carry(name: string): Promise<void> {
    let attempt: Attempt | undefined;
    try {
      attempt = await this.#attempt(this.#guest(name));
    } catch (thrown) {
      attempt = failure(undefined, thrown);
    }
    if (this.#stopped) return;
    if (attempt !== undefined) {
      const others = this.#busy.size > 1;
      const at = new Date().toISOString();
      const { guest, pauseMs } = settled(this.#guest(name), attempt, this.#record, others, at);
      this.#put(guest);
      this.#tell(guest);
      if (pauseMs > 0 && !this.#record.cancelled) this.#rest(name, pauseMs);
    }
    this.#busy.delete(name);
    this.go();
  }

  #rest(name: string, ms: number): void {
    const wake = () => {
      this.#resting.delete(name);
      this.go();
    };
    this.#resting.set(name, setTimeout(wake, ms));
  }

  /** Undefined: what was waited for is over, and the guest is to be moved as before. */
  async #attempt(guest: Leaving): Promise<Attempt | undefined> {
    const { name } = guest;
    const { destinations } = this.#record;
    const open = this.#site.open(name);
    if (open !== undefined) return this.#waitFor(guest, open);
    const destination = destinationFor(guest, destinations)!;
    const request = this.#request(guest, destination);
    const begun = await this.#beginnings.take();
    return this.#askAndMove(guest, request, destination, begun).finally(begun);
  }

  /** @param begun the next one may begin */
  async #askAndMove(
    guest: Leaving,
    request: MigrationRequest,
    destination: string,
    begun: () => void,
  ): Promise<Attempt | undefined> {
    // After a restart nobody else knows of a move that has come through.
    if (this.#record.cancelled) return (guest.tries > 0 && (await this.#gone(guest))) || CANCELLED;
    let answer: Answer | undefined;
    try {
      answer = await ask(this.#site, request, destination);
    } catch (thrown) {
      const { code } = asGodwitError(thrown);
      if (code !== 'unknown-guest') throw thrown;
      return (await this.#gone(guest)) ?? failure(undefined, thrown);
    }
    if (answer !== undefined) return { ...answer, outcome: 'failed' };
    if (this.#stopped) return undefined;
    return this.#record.cancelled ? CANCELLED : this.#move(guest, request, destination, begun);
  }

  async #move(
    guest: Leaving,
    request: MigrationRequest,
    destination: string,
    begun: () => void,
  ): Promise<Attempt> {
    const { name } = guest;
    const turn = {
      take: () => this.#link.take(name),
      giveBack: () => this.#link.giveBack(name),
    };
    try {
      const { bandwidth, suspendBandwidth } = this.#link.join(name);
      const caps = {
        ...(bandwidth && { bandwidth }),
        ...(suspendBandwidth && { suspendBandwidth }),
      };
      const { id } = await this.#site.begin({ ...request, ...caps }, turn);
      const tries = guest.tries + 1;
      this.#put({ ...guest, tries, migration: id, destination, waitsFor: undefined });
      this.#link.carry(name, (shared) => this.#site.steer(id, shared));
      if (this.#record.cancelled) this.#cancelMove(name);
      const view = await this.#until(id, (seen) => {
        if (seen.phase !== 'connecting') begun();
        if (seen.phase === 'handover' || seen.phase === 'recovery') turn.giveBack();
        return isOver(seen);
      });
      return { destination, enoughMs: view.enoughMs, ...figuresOf(view) };
    } catch (thrown) {
      return failure(undefined, thrown);
    } finally {
      this.#link.leave(name);
    }
  }

  /** Somebody moves the guest already, or an earlier run of the agent did. */
  async #waitFor(guest: Leaving, { id, peer }: MigrationView): Promise<Attempt | undefined> {
    const own = id === guest.migration;
    const whose = own ? '' : ', which the evacuation has not begun';
    this.#put({ ...guest, destination: peer, waitsFor: `its migration ${id}${whose}` });
    const over = this.#until(id, isOver);
    // What an earlier run has begun is told too late, and what others have begun is theirs.
    const view = await (own ? over : Promise.race([over, this.#cancelled.promise]));
    if (view === undefined) return CANCELLED;
    if (view.outcome === 'completed' || view.outcome === 'needs-resolve') {
      const past = await this.#past(guest);
      return {
        destination: peer,
        ...figuresOf(view),
        ...(past && past.id === id && timesOf(past)),
      };
    }
    return undefined;
  }

  /** A guest that is not here any more: where it went. */
  async #gone(guest: Leaving): Promise<Attempt | undefined> {
    const past = await this.#past(guest);
    if (past?.outcome !== 'completed') return undefined;
    this.#put({ ...guest, migration: past.id, destination: past.destination });
    return { destination: past.destination, outcome: 'completed', ...timesOf(past) };
  }

  /** The guest's last migration, unless it was over before the evacuation began: the guest was here then. */
  async #past({ name }: Leaving): Promise<PastMigration | undefined> {
    const past = await this.#site.past(name);
    const over = past && Date.parse(past.time) + (past.ms ?? 0);
    return over !== undefined && over >= Date.parse(this.#record.startedAt) ? past : undefined;
  }

  #until(id: string, isEnough: (view: MigrationView) => boolean): Promise<MigrationView> {
    const { promise, resolve } = Promise.withResolvers<MigrationView>();
    const unwatch = this.#site.watch(id, (view) => {
      if (isEnough(view)) resolve(view);
    });
    return promise.finally(() => unwatch());
  }

  #request(guest: Leaving, destination: string): MigrationRequest {
    const { move, by } = this.#record;
    const maxSuspendMs = limitOf(guest, this.#record);
    const limits = { ...move.limits, ...(maxSuspendMs !== undefined && { maxSuspendMs }) };
    return { ...move, ...parseAddress(destination), guest: guest.name, limits, ...(by && { by }) };
  }

  #guest(name: string): Leaving {
    return this.#record.leaving.find((one) => one.name === name)!;
  }

  /** Known at once, and on the disk as soon as that takes it. */
  #put(guest: Leaving): void {
    const leaving = this.#record.leaving.map((one) => (one.name === guest.name ? guest : one));
    this.#keep({ ...this.#record, leaving });
  }

  #keep(record: EvacuationRecord): void {
    this.#record = record;
    this.#store.write(record).catch((error: Error) => {
      log('error', `how far the evacuation is cannot be kept: ${error.message}`, record.id);
    });
  }

  #tell({ name, end, waitsFor, destination = '' }: Leaving): void {
    const { id } = this.#record;
    if (end === undefined) return log('info', `${name} waits: ${waitsFor}`, id);
    const { outcome, message } = end;
    log('info', `${name}: ${outcome}${message ? `: ${message}` : `, at ${destination}`}`, id);
  }

  #end(): void {
    this.#keep({ ...this.#record, endedAt: new Date().toISOString() });
    const { leaving, id } = this.#record;
    const moved = leaving.filter(({ end }) => end?.outcome === 'completed').length;
    log(
      'info',
      `the evacuation has ended: ${moved} of ${plural(leaving.length, 'guest')} moved`,
      id,
    );
  }
}

/**
 * Guests that are asked for, and their hypervisors started, at a time: a destination answers two checks at
 * once, and turns away who comes with dozens of connections that have not said anything yet.
 */
const BEGINNINGS = 2;

const CANCELLED: Attempt = {
  destination: undefined,
  outcome: 'cancelled',
  code: 'cancelled',
  message: 'the evacuation was cancelled',
};

/**
 * What a move to that destination would be refused for; undefined: nothing that a look shows.
 * @throws GodwitError unknown-guest
 */
export async function ask(
  site: Site,
  request: MigrationRequest,
  destination: string,
): Promise<Answer | undefined> {
  const findings = await site.inTheWay(request);
  const no = findings.find(({ verdict }) => verdict === 'no');
  if (no === undefined) return undefined;
  const { about, code, text: message } = no;
  return { destination: about.startsWith('destination ') ? destination : undefined, code, message };
}

function failure(destination: string | undefined, thrown: unknown): Attempt {
  const { code, message } = asGodwitError(thrown);
  return { destination, outcome: 'failed', code, message };
}

function figuresOf(view: MigrationView): Omit<GuestEnd, 'at'> {
  const { outcome = 'failed', code, message, elapsedMs: ms, wireBytes, suspension } = view;
  const suspensionMs = suspension && (suspension.guestMs ?? suspension.agentMs);
  const limitMs = suspension?.limitMs ?? view.limits?.maxSuspendMs;
  return { outcome, code, message, ms, wireBytes, suspensionMs, limitMs };
}

/** What the ledger knows better than a migration that was found in the journal. */
function timesOf({ ms, suspensionMs, limitMs, wireBytes }: PastMigration) {
  const known = Object.entries({ ms, suspensionMs, limitMs, wireBytes });
  return Object.fromEntries(known.filter(([, value]) => value !== undefined));
}
