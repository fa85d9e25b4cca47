import { randomBytes } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { asGodwitError, GodwitError } from '../errors.ts';
import type { GuestDescription, SourceGuest } from '../guest/guest.ts';
import { GuestLayout, PAGE_SIZE } from '../memory/guest-layout.ts';
import type { SourceHandover } from '../ownership/source-handover.ts';
import { PageHash } from '../pages/hash.ts';
import { cutoverObjection } from '../precopy/cutover.ts';
import { policyLimits } from '../precopy/limits.ts';
import { Steering } from '../precopy/steering.ts';
import type { Caps } from '../precopy/suspension-rate.ts';
import type { Outcome } from '../report/records.ts';
import { limitsInWords } from '../report/words.ts';
import { formatDuration, formatSize } from '../units.ts';
import { formatAddress } from '../wire/address.ts';
import type { Running } from '../wire/messages.ts';
import { foretell, keptProfile } from './check/foretell.ts';
import { subjectOf } from './experiences.ts';
import { outcomeOf } from './outcome.ts';
import { Releases } from './releases.ts';
import type { Basis, Course, SourceContext } from './source/basis.ts';
import { connect } from './source/connect.ts';
import { Conversation } from './source/conversation.ts';
import { copyDisks } from './source/disks.ts';
import { Ending } from './source/ending.ts';
import { openHandover } from './source/handover.ts';
import { MoveWatch } from './source/move-watch.ts';
import { offer } from './source/offer.ts';
import { sendRounds } from './source/precopy.ts';
import { firstEntry, openFacts, prepare } from './source/prepare.ts';
import { openRecall } from './source/recall.ts';
import { readyToSuspend, stopAndCopy } from './source/stop-and-copy.ts';
import { SourceSuspension, seenBy } from './source/suspension.ts';
import type { LimitsPatch, MigrationRequest, MigrationView } from './view.ts';

/**
 * One migration as its source sees it: an ordered list of phases with one failure path. Whatever
 * goes wrong before commit, the guest runs on here.
 */
export class SourceMigration {
  readonly #basis: Basis;
  readonly #destination: Conversation;
  /** Nothing of it is left but the handover. */
  #over = false;
  /** From stop-and-copy on. */
  #suspension: SourceSuspension | undefined;

  /** @throws GodwitError bad-option */
  constructor(id: string, request: MigrationRequest, guest: SourceGuest, context: SourceContext) {
    const steering = new Steering(request.policy, policyLimits(request.policy, request.limits));
    const { description } = guest;
    const subject = subjectOf({
      ...{ ...description, machine: context.machine },
      peer: formatAddress(request.host, request.port),
      totalPages: new GuestLayout(description.regions).totalPages,
      deviceStateBytes: guest.deviceStateBytes,
    });
    const watch = new MoveWatch(subject);
    const facts = openFacts(id, request, guest, context, steering, watch);
    const handover = openHandover({
      entry: firstEntry(id, request, guest, context),
      context,
      suspension: () => this.#suspension,
      onCommit: () => this.#commits(),
      onReport: (moved, error) => ending.report(moved, error),
      onChange: () => this.#changed(),
    });
    handover.use(Promise.resolve(guest));
    const ending = new Ending(handover, context.log);
    this.#basis = { id, request, context, steering, facts, handover, ending, subject, watch };
    this.#destination = new Conversation(this.#basis, (running) => this.#runsThere(running));
    this.#foretell(guest);
  }

  get id(): string {
    return this.#basis.id;
  }

  get host(): string {
    return this.#basis.request.host;
  }

  get port(): number {
    return this.#basis.request.port;
  }

  get handover(): SourceHandover {
    return this.#basis.handover;
  }

  /** What binds connections to this migration; empty until the destination has accepted it. */
  get secret(): Uint8Array {
    return this.#destination.secret;
  }

  /** True until the guest was given away. */
  get cancellable(): boolean {
    return this.#basis.ending.cancellable;
  }

  view(): MigrationView {
    return this.#basis.facts.view();
  }

  /**
   * The whole migration of the guest, which it takes over and closes; never rejects: how it ended is
   * in the view and the ledger.
   */
  async run(guest: SourceGuest): Promise<void> {
    const layout = new GuestLayout(guest.description.regions);
    const hash = new PageHash(randomBytes(8).readBigUInt64LE());
    const { request, context, steering } = this.#basis;
    const { description } = guest;
    const course: Course = { ...this.#basis, guest, layout, hash, releases: new Releases() };
    context.log('info', beginning(request, description, steering, context.lanes));
    try {
      await this.#move(course);
      this.#finish('completed', undefined);
    } catch (thrown) {
      await this.#unwind(course, course.ending.reason(this.#whyLost(asGodwitError(thrown))));
    } finally {
      await this.#letGo(course);
    }
  }

  /** Ends the migration; the guest runs on here. @throws GodwitError too-late after commit */
  cancel(error = new GodwitError('cancelled', 'the migration was cancelled')): void {
    const { id, facts, ending } = this.#basis;
    if (facts.phase === 'ended') throw new GodwitError('too-late', `migration ${id} has ended`);
    if (!ending.cancellable)
      throw new GodwitError('too-late', 'the guest has been handed over to the destination');
    ending.abort(error);
  }

  /**
   * Stop-and-copy as soon as there is a forecast, and that allows it; with `force` whatever it says.
   * @throws GodwitError too-late; cutover-refused when the last forecast does not allow it
   */
  cutover(force: boolean): void {
    const { steering, facts, context } = this.#basis;
    this.#mustPrecopy();
    // What a guest that is held has written since is found out before it is suspended.
    const judged = !force && !facts.heldReady;
    const objection = judged ? cutoverObjection(facts.estimate, steering.limits) : undefined;
    if (objection !== undefined) {
      const { why, option } = objection;
      const text = `${why}; raise ${option}, or try it all the same with --force`;
      throw new GodwitError('cutover-refused', text);
    }
    steering.cutover(force);
    const asked = `the operator asked for the cutover${force ? ', whatever the forecast' : ''}`;
    context.log('info', asked);
    facts.note(asked);
  }

  /** Changes limits in flight. @throws GodwitError bad-option, too-late */
  change({ bandwidth, suspendBandwidth, ...limits }: LimitsPatch): void {
    const { steering, facts, context } = this.#basis;
    this.#mustPrecopy();
    const now = facts.caps;
    const words = (caps: Caps) => limitsInWords(steering.limits, caps, steering.policy);
    const before = words(now);
    steering.change(limits);
    const changed = <T>(to: T | null | undefined, from: T) =>
      to === undefined ? from : (to ?? undefined);
    const caps = {
      bandwidth: changed(bandwidth, now.bandwidth),
      suspendBandwidth: changed(suspendBandwidth, now.suspendBandwidth),
    };
    this.#destination.setBandwidth(caps.bandwidth);
    facts.limitsChanged(steering.limits, caps);
    context.log('info', `limits changed: ${words(caps)} (before: ${before})`);
  }

  /** Its share of a link that it has with others, in whatever phase it is: no word of it in the log. */
  steer(caps: Required<Caps>): void {
    const { steering, facts } = this.#basis;
    const { bandwidth, suspendBandwidth } = caps;
    if (facts.phase === 'ended' || !this.cancellable || isDeepStrictEqual(caps, facts.caps)) return;
    this.#destination.setBandwidth(facts.phase === 'stop-and-copy' ? suspendBandwidth : bandwidth);
    facts.limitsChanged(steering.limits, caps);
  }

  /** The handover is being finished, and the destination cannot be asked for that reason. */
  waiting(reason: GodwitError | undefined): void {
    const what = `the destination's word whether it runs the guest`;
    this.#basis.facts.waits(reason && `${what}: ${reason.message}`);
  }

  /** Nothing more is asked of the destination for the time being. */
  close(): void {
    this.handover.letGo();
    this.#basis.facts.waits(undefined);
  }

  /** What is to be expected of it, by what is known before anything is asked of anybody. */
  #foretell({ arrives, disks }: SourceGuest): void {
    const { request, context, steering, subject, watch, facts } = this.#basis;
    const { experiences, journal, profile } = context;
    const { limits } = steering;
    const known = { subject, experiences, diskBytes: disks?.bytes ?? 0 };
    const asked = { request, limits, ...known, arrivesPaused: arrives === 'paused' };
    const kept = keptProfile(subject, () => profile(request.guest));
    const forecasts = foretell(asked, journal.appendMs, kept);
    facts.foretold(forecasts);
    watch.foretold(forecasts, kept);
  }

  /** The phases, in the order in which they happen; each takes what those before it have brought. */
  async #move(course: Course): Promise<void> {
    const destination = this.#destination;
    const policy = await prepare(course, (error) => this.#whyLost(error));
    const recalling = openRecall(course);
    recalling.catch(() => {}); // waited for once there is a destination
    const connected = await connect(course, destination);
    const accepted = await offer(course, destination, connected);
    course.watch.met({
      lanes: connected.lanes,
      compresses: connected.compression !== 'off',
      roundTripMs: connected.link.rttMs ?? 1,
      peerJournalMs: accepted.peerJournalMs,
      verifyRate: accepted.verifyRate,
    });
    const recall = await recalling;
    await copyDisks(course, accepted);
    const decision = await sendRounds(course, policy, connected, accepted);
    await readyToSuspend(course, connected, decision);
    const suspension = new SourceSuspension({
      basis: course,
      decision,
      rounds: accepted.rounds,
      link: connected.link,
      recall,
      onBegin: () => destination.setBandwidth(course.facts.caps.suspendBandwidth),
      onDeadline: (missed) => course.ending.abort(missed),
    });
    this.#suspension = suspension;
    await stopAndCopy(course, connected, accepted, suspension);
    // The guest is given away and gone from here; only the last word is missing.
    const closed = await destination.lastWord();
    suspension.record('destination', closed && seenBy(closed));
  }

  #whyLost(error: GodwitError): GodwitError {
    return this.#suspension?.whyLost(error) ?? error;
  }

  /** The one failure path. */
  async #unwind({ handover, context }: Course, error: GodwitError): Promise<void> {
    if (error.code === 'internal') context.log('error', (error.cause as Error)?.stack ?? '');
    if (handover.state.name === 'committed') return; // its end is for the next run to write
    await handover.dispatch({ type: 'abort', error }).catch((failure) => {
      context.log('error', `after the migration failed: ${asGodwitError(failure).message}`);
    });
    if (this.#destination.attentive && handover.state.name === 'aborted')
      await this.#destination.lastWord();
    if (this.#suspension !== undefined) {
      const seen = await handover.suspension().catch(() => undefined);
      this.#suspension.record('source', seen);
    }
    this.#finish(outcomeOf(error), error);
  }

  /** The one way in which everything that belongs to the migration and not to the guest is let go. */
  async #letGo({ ending, facts, releases, context, handover, guest }: Course): Promise<void> {
    ending.stop();
    this.#suspension?.disarm();
    releases.add(() => handover.use(undefined));
    releases.add(() => guest.close());
    await releases.run(context.log);
    this.#suspension = undefined;
    await handover.idle();
    await facts.closeLedger();
    this.#over = true;
    this.#changed();
  }

  /** It has ended when its copy here is what it has to be; what a peer has to hear is told meanwhile. */
  #changed(): void {
    const { facts, handover } = this.#basis;
    facts.stands(handover);
    if (this.#over) facts.end(handover.rests);
  }

  /** Commit is durable and about to be said. */
  #commits(): void {
    this.#suspension?.disarm();
    this.#suspension?.mark('prepare');
    this.#basis.facts.enter('handover');
    this.#destination.awaitAnswer();
  }

  #runsThere(running: Running): void {
    this.#suspension?.runsThere(running);
  }

  #finish(outcome: Outcome, error: GodwitError | undefined): void {
    const { facts, context } = this.#basis;
    facts.ended(outcome, error);
    const level = outcome === 'failed' ? 'error' : 'info';
    const { suspension } = facts.view();
    const ms = suspension && (suspension.guestMs ?? suspension.agentMs);
    const suspended = ms === undefined ? '' : `; the guest was suspended for ${formatDuration(ms)}`;
    context.log(level, `${outcome}: ${error?.message ?? 'moved'}${suspended}`);
  }

  #mustPrecopy(): void {
    const { id, facts } = this.#basis;
    if (facts.phase === 'connecting' || facts.phase === 'precopy') return;
    throw new GodwitError('too-late', `migration ${id} is past precopy (${facts.phase})`);
  }
}

/** Who moves what, where to, and within which limits, in one line. */
function beginning(
  request: MigrationRequest,
  { name, hypervisor, regions }: GuestDescription,
  { limits, policy }: Steering,
  otherwise: number,
): string {
  const { host, port, by = 'somebody', verify, lanes, compression } = request;
  const size = formatSize(new GuestLayout(regions).totalPages * PAGE_SIZE);
  const how = [
    `${policy} policy`,
    inLanes(lanes ?? otherwise),
    compression === 'off' ? 'no compression' : undefined,
    verify ? 'verified' : undefined,
  ];
  const given = how.filter((word) => word !== undefined).join(', ');
  return `${by} moves guest ${name} (${size}, ${hypervisor}) to ${formatAddress(host, port)}: ${limitsInWords(limits, request, policy)}; ${given}`;
}

function inLanes(lanes: number): string {
  return lanes === 1 ? '1 lane' : `${lanes} lanes`;
}
