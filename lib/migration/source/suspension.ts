import type { GodwitError } from '../../errors.ts';
import type { GuestSuspension } from '../../guest/guest.ts';
import type { Recalled } from '../../guest/recall/recall-protocol.ts';
import type { Recall } from '../../guest/recall/recalls.ts';
import { Turn } from '../../guest/recall/turn.ts';
import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import { faultPoint } from '../../ownership/fault.ts';
import type { Experience, Lessons } from '../../precopy/calibration.ts';
import { cappedMs } from '../../precopy/estimate.ts';
import { type Division, reserveMs } from '../../precopy/fit.ts';
import type { PrecopyResult } from '../../precopy/loop.ts';
import type { Rounds } from '../../precopy/rounds/rounds.ts';
import { enforcedSuspendMs, lastRate } from '../../precopy/stats.ts';
import { Suspension, type SuspensionParts } from '../../precopy/suspension.ts';
import type { PastSuspension, SuspensionRecord } from '../../report/records.ts';
import type { Link } from '../../wire/link.ts';
import type { Closed, Running } from '../../wire/messages.ts';
import type { Basis } from './basis.ts';

/** So long after the deadline the migration does itself what its recall has not done, ms. */
const RECALL_FIRST_MS = 20;

export interface SourceSuspensionOptions {
  readonly basis: Pick<Basis, 'context' | 'facts' | 'steering' | 'subject' | 'request'>;
  /** What led to it. */
  readonly decision: PrecopyResult;
  readonly rounds: Rounds;
  readonly link: Link;
  /** The way on which another thread recalls the guest; undefined: none could be opened. */
  readonly recall: Recall | undefined;
  /** The guest stops, or has just stopped. */
  readonly onBegin: () => void;
  readonly onDeadline: (missed: GodwitError) => void;
}

/**
 * The one suspension of a migration, from the moment at which the guest stops here. At its deadline
 * the guest is recalled, by a thread of its own and, should that one have ended, by the migration.
 */
export class SourceSuspension {
  readonly #options: SourceSuspensionOptions;
  readonly #lessons: Lessons;
  readonly #turn = new Turn();
  #clock: Suspension | undefined;
  #fallback: NodeJS.Timeout | undefined;
  #deviceStateBytes: number | undefined;
  /** When its saving began, had ended, and when all of it was on its way. */
  readonly #state: { fromMs?: number; savedMs?: number; sentMs?: number } = {};
  #recallMs: number | undefined;
  /** When it was seen to run again although a recall was to make it, ms since the beginning. */
  #seenMs: number | undefined;

  constructor(options: SourceSuspensionOptions) {
    const { context, subject } = options.basis;
    this.#options = options;
    this.#lessons = context.experiences.lessonsFor(subject);
  }

  /** As it was when it was decided: what the forecast fitted is what it gets. */
  get #division(): Division {
    const { decision, link } = this.#options;
    const unknown = { after: 0, reserve: reserveMs(link.rttMs ?? 1, this.#lessons) };
    return decision.stats.estimate ?? unknown;
  }

  /** The limit that is enforced, ms; undefined: none. */
  get limitMs(): number | undefined {
    return enforcedSuspendMs(this.#options.basis.steering.limits);
  }

  /** The guest stops, or has stopped that long ago, ms. */
  begin(agoMs: number): void {
    const { onBegin, onDeadline, recall } = this.#options;
    onBegin();
    const { limitMs } = this;
    const missed = () => onDeadline(this.#missed());
    this.#clock = new Suspension({ limitMs, reserveMs: this.#division.reserve, agoMs }, () => {
      this.#fallback = setTimeout(missed, recall === undefined ? 0 : RECALL_FIRST_MS);
    });
    if (limitMs === undefined) return;
    const armed = recall?.arm(this.#clock.leftMs, this.#turn);
    armed?.then(
      (recalled) => this.#recalled(recalled),
      () => {}, // its thread has ended: the clock here goes on
    );
  }

  /** The part ends now. */
  mark(part: keyof SuspensionParts): void {
    this.#clock?.mark(part);
    faultPoint(`source.suspension.${part}`);
  }

  /** The device state is saved and sent from here on, beside all else. */
  follow(saving: Promise<number>, sending: Promise<unknown>): void {
    this.#state.fromMs = performance.now();
    saving.then(
      (bytes) => {
        this.#deviceStateBytes = bytes;
        this.#state.savedMs = performance.now();
      },
      () => {}, // whoever waits for it hears of it
    );
    sending.then(
      () => {
        this.#state.sentMs = performance.now();
      },
      () => {},
    );
  }

  /** Commit is reached or given up: the deadline has done its work, and nobody recalls the guest. */
  disarm(): void {
    this.#turn.take('handover');
    this.#clock?.disarm();
    clearTimeout(this.#fallback);
  }

  /** The guest runs again, on either side; when a recall has made it, that tells since when. */
  end(): void {
    if (this.#turn.take('handover')) this.#clock?.end();
    else this.#seenMs ??= this.#clock?.ms;
  }

  /** Takes the turn to give the guest away; the error to abort with when it is too late for that. */
  late(): GodwitError | undefined {
    const isOurs = this.#turn.take('handover');
    return isOurs && !this.#clock?.late ? undefined : this.#missed();
  }

  /** Why the guest was lost: a recall ends its hypervisor's part, which may be heard of first. */
  whyLost(error: GodwitError): GodwitError {
    return this.#turn.isRecalled ? this.#missed() : error;
  }

  /** The guest runs at its destination, as that says. */
  runsThere({ resumeMs }: Pick<Running, 'resumeMs'>): void {
    const wayMs = (this.#options.link.rttMs ?? 0) / 2;
    if (this.#turn.take('handover')) this.#clock?.runsThere(resumeMs, wayMs);
  }

  /** Tells how long it was, unless the guest was never stopped. */
  record(side: 'source' | 'destination', seen: GuestSuspension | undefined): void {
    if (this.#clock === undefined) return;
    const { basis, decision, rounds } = this.#options;
    this.#clock.end(this.#seenMs); // unless a recall has told
    const { limitMs, parts, ms: agentMs } = this.#clock;
    const { estimate } = decision.stats;
    const rate = lastRate(decision.stats);
    const { suspendBandwidth } = basis.facts.caps;
    const deviceStateBytes = this.#deviceStateBytes ?? basis.subject.deviceStateBytes;
    const guest = { guestMs: seen?.ms, clock: seen?.clock };
    const before = earlierOf(basis.subject, basis.context.experiences.all);
    const deviceState = this.#deviceState;
    const fromMs = this.#clock.startedMs - basis.facts.startedMs;
    const record = { side, fromMs, estimate, limitMs, parts, deviceState, agentMs, ...guest };
    basis.facts.suspended(record, before);
    basis.context.experiences.add({
      ...basis.subject,
      time: new Date().toISOString(),
      forecast: estimate && { low: estimate.low, expected: estimate.expected, high: estimate.high },
      pages: rounds.roundPages,
      sendMs: rate > 0 ? ((rounds.roundPages * PAGE_SIZE) / rate) * 1000 : 0,
      deviceStateBytes,
      ...(suspendBandwidth && { cappedMs: cappedMs(deviceStateBytes ?? 0, suspendBandwidth) }),
      verified: basis.request.verify,
      parts,
      ms: seen?.ms ?? agentMs,
      moved: side === 'destination',
      limitMs,
      recallMs: this.#recallMs,
    });
  }

  get #deviceState(): SuspensionRecord['deviceState'] {
    const { fromMs, savedMs, sentMs } = this.#state;
    if (fromMs === undefined || savedMs === undefined || sentMs === undefined) return undefined;
    const bytes = this.#deviceStateBytes!;
    return { bytes, savedMs: savedMs - fromMs, sentMs: sentMs - fromMs };
  }

  /** The thread has recalled the guest, whatever this one did meanwhile. */
  #recalled(recalled: Recalled): void {
    if (!recalled.done) return;
    const { basis, onDeadline } = this.#options;
    const clock = this.#clock!;
    clearTimeout(this.#fallback);
    if (recalled.trouble === undefined) {
      this.#recallMs = recalled.ms;
      clock.end(clock.allowedMs! + recalled.ms);
    } else basis.context.log('warn', `the guest could not be recalled: ${recalled.trouble}`);
    onDeadline(this.#missed());
  }

  /** The deadline passed: what was being done, and how long the rest would have taken. */
  #missed(): GodwitError {
    const { decision, rounds } = this.#options;
    const { estimate } = decision.stats;
    const rate = lastRate(decision.stats);
    const fixedMs = estimate?.fixed ?? 0;
    const clock = this.#clock!;
    // What this thread was kept from does not count once the other one has acted.
    const spentMs = this.#turn.take('handover') ? clock.ms : clock.allowedMs!;
    const missed = (doing: string, restMs: number) =>
      clock.missed(doing, spentMs + restMs, this.#division);
    const { pages, deviceState } = clock.parts;
    if (deviceState !== undefined)
      return missed('the destination verified memory and loaded state', fixedMs);
    if (pages !== undefined) return missed('device state was saved and sent', fixedMs);
    const left = rounds.progress().pagesRemaining;
    const sendMs = rate ? ((left * PAGE_SIZE) / rate) * 1000 : 0;
    const doing = `${left} of ${rounds.roundPages} last pages were still to be sent`;
    return missed(doing, sendMs + fixedMs);
  }
}

/** Those that a report shows beside the one of its move. */
const EARLIER = 19;

function earlierOf(
  { guest, hypervisor }: Basis['subject'],
  all: readonly Experience[],
): readonly PastSuspension[] {
  return all
    .filter((one) => one.guest === guest && one.hypervisor === hypervisor)
    .slice(-EARLIER)
    .map(({ time, ms, limitMs, forecast, moved }) => ({ time, ms, limitMs, forecast, moved }));
}

/** The guest's own view, as the destination has it from the guest; undefined when it could not tell. */
export function seenBy({ guestSuspensionMs: ms, clock }: Closed): GuestSuspension | undefined {
  if (ms < 0) return undefined;
  return { ms, clock: clock === 'monotonic' ? 'monotonic' : 'realtime' };
}
