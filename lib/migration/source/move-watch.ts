import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import type { WindowPages } from '../../memory/working-set.ts';
import type { Subject } from '../../precopy/calibration.ts';
import { ZERO_LANE_RATE } from '../../precopy/forecast.ts';
import { paceOf } from '../../precopy/pace.ts';
import type { Foretold, KnownWay, PastMove } from '../../precopy/past-moves.ts';
import type { GuestProfile } from '../../precopy/profile.ts';
import type {
  ConsultationRecord,
  EndRecord,
  LedgerRecord,
  RoundRecord,
} from '../../report/records.ts';

/** Pages of a round that tell how fast the way is: fewer wait for their answer most of the time. */
const MIN_ROUND_PAGES = 1024;
/** Share of a rate that one move leaves open. */
const MOVE_SPREAD = 0.15;
/** Windows of a guest that was seen by its rounds. */
const MAX_WINDOWS = 16;

/** What is agreed with a destination, and not in the ledger. */
export type Met = Pick<
  KnownWay,
  'lanes' | 'compresses' | 'roundTripMs' | 'peerJournalMs' | 'verifyRate'
>;

/**
 * Reads the ledger of a move as it is written, and says at its end what the move has taught. Pure; it
 * grows with neither rounds nor time.
 */
export class MoveWatch {
  readonly #subject: Subject;
  #foretold: readonly Foretold[] = [];
  #profile: GuestProfile | undefined;
  #met: Met | undefined;
  #cap: number | undefined;
  #setupMs: number | undefined;
  /** Disks are no setup: how long they take is in their bytes. */
  #disksMs = 0;
  /** A person has changed it, ordered or held it: its time is not what was forecast. */
  #steered = false;
  /** The way was lost meanwhile, or capped anew: rounds do not tell how fast it is. */
  #broken = false;
  #largest: RoundRecord | undefined;
  #first: RoundRecord | undefined;
  /** When the dirty log was synced last, and the round that has ended since. */
  #syncedMs: number | undefined;
  #finished: RoundRecord | undefined;
  #windows: WindowPages[] = [];
  #suspensionMs: number | undefined;

  constructor(subject: Subject) {
    this.#subject = subject;
  }

  /** @param profile the guest's newest one */
  foretold(forecasts: readonly Foretold[], profile: GuestProfile | undefined): void {
    this.#foretold = forecasts;
    this.#profile = profile;
  }

  /** The destination is known. */
  met(met: Met): void {
    this.#met = met;
  }

  /** @returns with the end what is to be remembered; undefined of a move that never began */
  see(record: LedgerRecord): PastMove | undefined {
    switch (record.type) {
      case 'start':
        this.#cap = record.bandwidth;
        return undefined;
      case 'consultation':
        this.#consulted(record);
        return undefined;
      case 'disks':
        this.#disksMs = record.ms;
        return undefined;
      case 'round':
        this.#round(record);
        return undefined;
      case 'limits':
        this.#steered = true;
        this.#broken ||= record.bandwidth !== this.#cap;
        return undefined;
      case 'outage':
        this.#broken = true;
        return undefined;
      case 'suspension':
        if (record.side === 'destination') this.#suspensionMs = record.guestMs ?? record.agentMs;
        return undefined;
      case 'end':
        return this.#ended(record);
      default:
        return undefined;
    }
  }

  #consulted({ at, stats }: ConsultationRecord): void {
    this.#setupMs ??= at - this.#disksMs;
    this.#steered ||= stats.cutoverRequested || stats.sinceHeldMs !== undefined;
    if (stats.when !== 'before-round') return;
    // Of a guest that is held the ledger does not have every look.
    if (this.#finished !== undefined && this.#syncedMs !== undefined && !this.#steered)
      this.#addWindow(at - this.#syncedMs, stats.dirtyCount);
    this.#syncedMs = at;
    this.#finished = undefined;
  }

  #round(round: RoundRecord): void {
    if (round.stopAndCopy) return;
    this.#finished = round;
    this.#first ??= round;
    if (pagesOf(round) > (this.#largest === undefined ? 0 : pagesOf(this.#largest)))
      this.#largest = round;
  }

  /** The newest of about the same length stand for all of them. */
  #addWindow(windowMs: number, pages: number): void {
    if (!(windowMs > 0) || pages < 0) return;
    const others = this.#windows.filter(
      (one) => Math.abs(Math.log2(one.windowMs / windowMs)) > 0.5,
    );
    const next = [...others, { windowMs, pages, high: pages }].slice(-MAX_WINDOWS);
    this.#windows = next.sort((a, b) => a.windowMs - b.windowMs);
  }

  #ended({ at, outcome }: EndRecord): PastMove | undefined {
    if (this.#setupMs === undefined) return undefined;
    const moved = outcome === 'completed' && this.#suspensionMs !== undefined;
    return {
      ...this.#subject,
      kind: 'move',
      time: new Date().toISOString(),
      moved,
      givenUp: outcome === 'aborted',
      foretold: this.#foretold,
      totalMs: moved && !this.#steered ? at : undefined,
      suspensionMs: this.#suspensionMs,
      setupMs: this.#setupMs,
      way: this.#way,
      seen: this.#seen,
      pace: this.#pace,
    };
  }

  /** A rehearsal has seen the guest as if it were moved: it teaches nothing about other profiles. */
  get #pace(): number | undefined {
    if (this.#profile === undefined || this.#profile.method === 'rehearsal') return undefined;
    return paceOf(this.#profile, this.#windows);
  }

  get #way(): KnownWay | undefined {
    const round = this.#largest;
    if (this.#met === undefined || round === undefined || this.#broken) return undefined;
    const pages = pagesOf(round);
    const zeroMs = (((round.encodings.zero * PAGE_SIZE) / ZERO_LANE_RATE) * 1000) / this.#met.lanes;
    const ms = round.ms - zeroMs;
    if (pages < MIN_ROUND_PAGES || ms <= 0) return undefined;
    // As many bytes as the guest's pages were worth on the wire: with the share below they make its rate.
    const rate = (Math.min(round.wireBytes, pages * PAGE_SIZE) * 1000) / ms;
    return { ...this.#met, rate, spread: MOVE_SPREAD, cap: this.#cap };
  }

  get #seen(): GuestProfile | undefined {
    const { guest, totalPages } = this.#subject;
    const [first, largest, last] = [this.#first, this.#largest, this.#windows.at(-1)];
    if (last === undefined || first === undefined) return undefined;
    const time = new Date().toISOString();
    const known = { guest, time, ms: last.windowMs, totalPages, workingSet: this.#windows };
    const zeroShare = first.cutShort ? undefined : first.encodings.zero / first.sentPages;
    const pages = largest === undefined ? 0 : pagesOf(largest);
    const compressedShare =
      pages < MIN_ROUND_PAGES ? undefined : Math.min(1, largest!.wireBytes / (pages * PAGE_SIZE));
    return { ...known, zeroShare, compressedShare };
  }
}

/** Pages that have cost something. */
function pagesOf({ sentPages, encodings }: RoundRecord): number {
  return sentPages - encodings.zero;
}
