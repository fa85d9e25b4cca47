import { randomBytes } from 'node:crypto';
import { asGodwitError, GodwitError } from '../errors.ts';
import type { DestinationGuest } from '../guest/guest.ts';
import { PAGE_SIZE } from '../memory/guest-layout.ts';
import type { DestinationHandover } from '../ownership/destination-handover.ts';
import { formatSize } from '../units.ts';
import type { Connection, Received } from '../wire/connection.ts';
import { checkGuestOffer, SECRET_SIZE } from '../wire/handshake.ts';
import type { Accept, GuestOffer, HostFacts, Welcome } from '../wire/messages.ts';
import type { Basis, DestinationContext } from './destination/basis.ts';
import { complete, type PreparedIn } from './destination/complete.ts';
import { Conversation } from './destination/conversation.ts';
import { openHandover } from './destination/handover.ts';
import { type Intake, openIntake } from './destination/intake.ts';
import { isOpen, makeRoom } from './destination/make-room.ts';
import { tellHost } from './destination/tell-host.ts';
import { Facts } from './facts.ts';
import { outcomeOf } from './outcome.ts';
import { Releases } from './releases.ts';
import type { MigrationView } from './view.ts';

/**
 * One migration as its destination sees it: an ordered list of phases, each of which hears what the
 * sender has to say in it, and one failure path. The guest runs here only when the source says so.
 */
export class DestinationMigration {
  readonly #basis: Basis;
  readonly #sender: Conversation;
  readonly #finished = Promise.withResolvers<void>();
  /** Hears the rounds, from Accept until the end is known. */
  #intake: Intake | undefined;
  /** Pages of the guest that stood here before anything was sent. */
  #keptPages = 0;
  /** Once the sender listens. */
  #tellHost: () => void = () => {};
  #preparedIn: PreparedIn = { verifyMs: 0, loadMs: 0 };
  /** The sender finishes the handover from its journal. */
  #recovering = false;
  /** Finds the copy again; empty before there is anything of it. */
  #handle = '';
  #letGo: Promise<void> | undefined;
  /** Nothing of it is left but the handover. */
  #over = false;

  /** @throws GodwitError bad-message */
  constructor(
    offer: GuestOffer,
    control: Connection,
    welcome: Welcome,
    context: DestinationContext,
  ) {
    const layout = checkGuestOffer(offer);
    const { migration: id, guest } = offer;
    const { peer, onChange } = context;
    const { totalPages } = layout;
    const facts = new Facts({ id, role: 'receive', guest, peer, totalPages, onChange });
    const handover = openHandover({
      offer,
      context,
      handle: () => this.#handle,
      facts,
      preparedIn: () => this.#preparedIn,
      onReport: (moved, error) => this.#report(moved, error),
      onChange: () => this.#changed(),
    });
    const secret = randomBytes(SECRET_SIZE);
    const releases = new Releases();
    this.#basis = { offer, welcome, context, layout, secret, facts, handover, releases };
    const sender = new Conversation(control, this.#basis, {
      onMessage: (received) => this.#receive(received),
      mayRejoin: () => this.#mayRejoin,
      heardElsewhere: () => this.#intake?.heardBytes ?? 0,
      onEnd: (error) => this.#unheard(error),
    });
    releases.add(() => sender.close());
    this.#sender = sender;
  }

  /** The sender's id for the migration. */
  get id(): string {
    return this.#basis.offer.migration;
  }

  get guestName(): string {
    return this.#basis.offer.guest;
  }

  get peer(): string {
    return this.#basis.context.peer;
  }

  get secret(): Uint8Array {
    return this.#basis.secret;
  }

  get handover(): DestinationHandover {
    return this.#basis.handover;
  }

  /** Bytes of guest memory that are promised and not yet filled. */
  get owedBytes(): number {
    const { outcome, totalPages, encodings } = this.view();
    if (outcome !== undefined) return 0;
    const there = this.#keptPages + encodings.raw + encodings.copy;
    return Math.max(0, totalPages - there) * PAGE_SIZE;
  }

  /** Resolves when everything of the migration is let go. */
  get finished(): Promise<void> {
    return this.#finished.promise;
  }

  /** True until the guest runs here. */
  get cancellable(): boolean {
    return isOpen(this.#basis);
  }

  view(): MigrationView {
    return this.#basis.facts.view();
  }

  /** The whole migration, in the background; how it ended is in the view. */
  begin(): void {
    this.#inBackground(this.#take());
  }

  /** Gives the migration up. @throws GodwitError too-late once the guest runs here */
  cancel(
    error = new GodwitError('cancelled', 'the migration was cancelled at the destination'),
  ): void {
    if (!this.cancellable)
      throw new GodwitError('too-late', 'the migration has ended or the guest runs here already');
    this.handover.tell({ type: 'abort', error });
  }

  /** The sender is back on another connection. */
  rejoin(control: Connection, peerReceived: number): void {
    this.#sender.rejoin(control, peerReceived);
  }

  /** The sender finishes the handover from its journal. */
  recover(control: Connection): void {
    this.#recovering = true;
    // Nothing more comes of the migration itself: what is incomplete goes.
    const text = 'the source finishes the handover from its journal';
    this.handover.tell({ type: 'lost', error: new GodwitError('peer-closed', text) });
    this.#sender.recover(control);
  }

  /** Lets go of what is between the agents; the journal has it. */
  leave(): void {
    this.#inBackground(this.#finish());
  }

  /** The phases, in the order in which they happen; a migration that has ended goes no further. */
  async #take(): Promise<void> {
    const { offer, facts, handover } = this.#basis;
    const guest = await makeRoom(this.#basis, (handle) => {
      this.#handle = handle;
    });
    if (guest === undefined || !this.cancellable) return;
    const intake = openIntake(this.#basis, guest, {
      onTaken: (round) => {
        if (!this.cancellable) return;
        this.#sender.link.send('RoundTaken', { round });
        this.#tellHost();
      },
      onFailure: (thrown) => this.#failed(thrown),
    });
    const dataPorts = await intake.pool.listen();
    const diskPort = (await intake.disks?.listen()) ?? 0;
    const verifyRate = offer.verify ? await intake.pool.verifyRate() : 0;
    if (!this.cancellable) return;
    this.#accept(intake, { dataPorts, diskPort, verifyRate }, guest);
    this.#preparedIn = await complete(guest, intake, offer.verify);
    if (!this.cancellable) return;
    facts.enter('handover');
    this.#tellHost();
    handover.tell({ type: 'complete' });
  }

  #accept(
    intake: Intake,
    found: Pick<Accept, 'dataPorts' | 'diskPort' | 'verifyRate'>,
    { placement, hypervisorVersion, kept = [] }: DestinationGuest,
  ): void {
    const { context, facts, secret, layout } = this.#basis;
    const journalMs = context.journal.appendMs;
    this.#intake = intake;
    const { epoch } = this.handover.state;
    this.#keptPages = layout.regions
      .filter(({ name }) => kept.includes(name))
      .reduce((sum, { pages }) => sum + pages, 0);
    const keptPages = this.#keptPages;
    const accept = { ...found, secret, journalMs, placement, epoch, keptPages };
    this.#sender.link.send('Accept', accept);
    const say = (host: HostFacts) => this.#sayHost(host);
    this.#tellHost = tellHost(hypervisorVersion, say, this.#basis.releases);
    facts.enter('precopy');
    const size = formatSize(this.#basis.layout.totalPages * PAGE_SIZE);
    const { hypervisor } = this.#basis.offer;
    const had = keptPages > 0 ? ', in the memory that was kept of it' : '';
    context.log(
      'info',
      `receiving guest ${this.guestName} (${size}, ${hypervisor}) from ${this.peer}${had}`,
    );
  }

  /** Only people want it: whatever keeps it from being said is no trouble of the migration. */
  #sayHost(host: HostFacts): void {
    if (this.#recovering || this.handover.state.name !== 'receiving') return;
    try {
      this.#sender.link.send('HostFacts', host);
    } catch {} // the link has ended, which those hear who rest on it
  }

  #receive(received: Received): void {
    const { kind, message } = received;
    if (!this.#recovering && this.#intake?.hear(received)) return;
    if (kind === 'Verdict') {
      const { action, reason } = message;
      return this.#basis.facts.heard({ action: action as 'continue', reason });
    }
    if (!this.handover.hear(received))
      throw new GodwitError('bad-message', `the sender sent ${kind} where it has no place`);
  }

  /** Once the sender has what it takes to join again, until the guest runs here. */
  get #mayRejoin(): boolean {
    const { reconnectTimeoutMs } = this.#basis.context;
    const accepted = this.#intake !== undefined && !this.#recovering;
    return reconnectTimeoutMs > 0 && accepted && this.cancellable;
  }

  /** The sender cannot be heard any more. */
  #unheard(error: GodwitError): void {
    this.handover.tell({ type: 'lost', error });
    if (this.view().outcome !== undefined) this.#inBackground(this.#finish());
  }

  #report(moved: boolean, error: GodwitError | undefined): void {
    const { facts, context } = this.#basis;
    this.#intake = undefined;
    facts.ended(moved ? 'completed' : outcomeOf(error), error);
    if (error) context.log('warn', `guest ${this.guestName} from ${this.peer}: ${error.message}`);
  }

  #changed(): void {
    const { facts, handover } = this.#basis;
    const { name } = handover.state;
    facts.stands(handover);
    // Prepared and not told: only the source knows whether it committed.
    const word = `the source's word whether the guest is to run here`;
    facts.waits(name === 'prepared' ? word : undefined);
    if (this.#over) facts.end(handover.rests);
    if (name === 'ended' && this.#letGo === undefined) this.#inBackground(this.#finish());
  }

  /** Once everything is said that belongs to the end. */
  async #finish(): Promise<void> {
    await this.handover.idle();
    this.#letGo ??= this.#release();
    await this.#letGo;
    this.handover.letGo(); // found again since, for what a person has decided
  }

  /** The one way in which everything that belongs to the migration and not to the guest is let go. */
  async #release(): Promise<void> {
    const { releases, context, handover } = this.#basis;
    releases.add(() => handover.use(undefined));
    await releases.run(context.log);
    this.#over = true;
    this.#changed();
    this.#finished.resolve();
  }

  /** Work that outlasts the message that asked for it; its failure ends the migration. */
  #inBackground(work: Promise<void>): void {
    work.catch((thrown) => this.#failed(thrown));
  }

  /** The one failure path. */
  #failed(thrown: unknown): void {
    const error = asGodwitError(thrown);
    if (error.code === 'internal')
      this.#basis.context.log('error', (error.cause as Error)?.stack ?? '');
    this.handover.tell({ type: 'abort', error });
  }
}
