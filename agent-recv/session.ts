import { randomBytes } from 'node:crypto';
import type { MigrationView, Phase } from '../lib/control/view.ts';
import { asGodwitError, GodwitError } from '../lib/errors.ts';
import type { DestinationGuest, GuestCopy, GuestDescription, Moment } from '../lib/guest/guest.ts';
import { startDestination } from '../lib/handover/destination-machine.ts';
import type { Journal } from '../lib/journal/journal.ts';
import { type GuestLayout, PAGE_SIZE } from '../lib/memory/guest-layout.ts';
import { PageSet } from '../lib/memory/page-set.ts';
import { PageHash } from '../lib/pages/hash.ts';
import { ReceivePool } from '../lib/pages/receive-pool.ts';
import type { Outcome } from '../lib/report/records.ts';
import type { Channel, Received } from '../lib/wire/channel.ts';
import type { Credentials } from '../lib/wire/credentials.ts';
import { checkGuestOffer, SECRET_SIZE } from '../lib/wire/handshake.ts';
import { Link } from '../lib/wire/link.ts';
import type { Digest, GuestOffer, RoundEnd, Verdict, Welcome } from '../lib/wire/messages.ts';
import { Arrivals } from './arrivals.ts';
import { Forwarding } from './forwarding.ts';
import { DestinationHandover } from './handover.ts';

import { StateParts } from './state-parts.ts';

export interface ReceiveContext {
  /** Where the sender's connection comes from. */
  readonly peer: string;
  readonly listenHost: string;
  readonly dataPorts: { readonly first: number; readonly last: number } | undefined;
  readonly credentials: Credentials | undefined;
  /** SHA-256 of the certificate that the sender has shown; empty without TLS. */
  readonly senderFingerprint: string;
  readonly journal: Journal;
  /** How long a sender that was lost may take to come back; 0: it may not. */
  readonly reconnectTimeoutMs: number;
  /** The guest by the handle that it had, once the session has let go of it. */
  readonly attach: (name: string, handle: string) => Promise<GuestCopy | undefined>;
  /** What the operator wants done at that moment. */
  readonly hook: (moment: Moment, session: ReceiveSession) => Promise<void>;
  /**
   * A destination guest with memory for the description, paused.
   * @throws GodwitError memory-insufficient, guest-exists, ram-file-failed, hypervisor-failed
   */
  readonly startGuest: (description: GuestDescription, bytes: number) => Promise<DestinationGuest>;
  readonly onChange: (session: ReceiveSession) => void;
  readonly log: (level: 'info' | 'warn' | 'error', text: string, session: ReceiveSession) => void;
}

/** One migration as its destination sees it: what the sender says, in the order it must say it. */
export class ReceiveSession {
  readonly peer: string;
  readonly handover: DestinationHandover;
  readonly secret = randomBytes(SECRET_SIZE);
  readonly #context: ReceiveContext;
  #link: Link;
  #giveUp: NodeJS.Timeout | undefined;
  #outage: GodwitError | undefined;
  readonly #startedAt = new Date().toISOString();
  readonly #startedMs = performance.now();
  readonly #finished = Promise.withResolvers<void>();
  #phase: Phase = 'connecting';
  #expects: 'rounds' | 'handover' | 'nothing' = 'nothing';
  readonly #welcome: Welcome;
  readonly #offer: GuestOffer;
  readonly #layout: GuestLayout;
  readonly #hash: PageHash;
  /** Being started or there. */
  #starting: Promise<DestinationGuest> | undefined;
  #guest: DestinationGuest | undefined;
  #letGoOf = false;
  /** Found again, for what the handover still did to it. */
  #again: GuestCopy | undefined;
  #pool: ReceivePool | undefined;
  #arrivals: Arrivals | undefined;
  #forwarding: Forwarding | undefined;
  #state = new StateParts();
  /** Begun when the last round has ended. */
  #ownDigest: Promise<bigint[]> | undefined;
  #timings = { verifyMs: 0, loadMs: 0, resumeMs: 0 };
  #verdict: Verdict | undefined;
  #suspension: MigrationView['suspension'];
  #outcome: Outcome | undefined;
  #error: GodwitError | undefined;
  #endedMs: number | undefined;

  /** @throws GodwitError bad-message */
  constructor(offer: GuestOffer, control: Channel, welcome: Welcome, context: ReceiveContext) {
    this.#layout = checkGuestOffer(offer);
    this.#offer = offer;
    this.#welcome = welcome;
    this.#hash = new PageHash(offer.hashSeed);
    this.#context = context;
    this.peer = context.peer;
    this.handover = this.#newHandover();
    this.#link = this.#newLink(control);
  }

  /** The whole migration, in the background; how it ended is in the view. */
  begin(): void {
    this.#inBackground(this.#accept());
  }

  /** The sender's id for the migration. */
  get id(): string {
    return this.#offer.migration;
  }

  get guestName(): string {
    return this.#offer.guest;
  }

  /** Bytes of guest memory that are promised and not yet filled. */
  get owedBytes(): number {
    if (this.#outcome !== undefined) return 0;
    const { encodings } = this.#pool?.totals() ?? { encodings: undefined };
    const filled = encodings ? encodings.raw + encodings.copy : 0;
    return Math.max(0, this.#layout.totalPages - filled) * PAGE_SIZE;
  }

  /** Resolves when everything of the migration is let go. */
  get finished(): Promise<void> {
    return this.#finished.promise;
  }

  /** True until the guest runs here. */
  get cancellable(): boolean {
    const { name } = this.handover.state;
    return name === 'receiving' || name === 'prepared';
  }

  /** Gives the migration up. @throws GodwitError too-late once the guest runs here */
  cancel(
    error = new GodwitError('cancelled', 'the migration was cancelled at the destination'),
  ): void {
    if (!this.cancellable)
      throw new GodwitError('too-late', 'the migration has ended or the guest runs here already');
    this.handover.tell({ type: 'abort', error });
  }

  // ---- what the sender says ----------------------------------------------

  #receive(received: Received): void {
    const { kind, message } = received;
    if (this.#expects === 'rounds') {
      if (kind === 'RoundBegin') return this.#beginRound(message);
      if (kind === 'DirtyList') return this.#arrivals!.list(message);
      if (kind === 'RoundEnd') return this.#endRound(message);
      if (kind === 'Suspend') return this.#enter('stop-and-copy');
      if (kind === 'DeviceState') return this.#state.add(message, received.payload);
      if (kind === 'Digest') return this.#inBackground(this.#complete(message));
    }
    if (kind === 'Verdict') {
      this.#verdict = message;
      return this.#context.onChange(this);
    }
    if (!this.handover.hear(received))
      throw new GodwitError('bad-message', `the sender sent ${kind} where it has no place`);
  }

  #newLink(control: Channel): Link {
    const link: Link = new Link(control, {
      onMessage: (received) => this.#receive(received),
      mayRejoin: () => this.#mayRejoin,
      onLost: (error) => this.#lost(error),
      onClose: (error) => {
        if (link === this.#link) this.#closed(error); // else another has taken its place
      },
    });
    this.handover.speakThrough(link);
    return link;
  }

  /** Once the sender has what it takes to join again, until the guest runs here. */
  get #mayRejoin(): boolean {
    return this.#context.reconnectTimeoutMs > 0 && this.#expects !== 'nothing' && this.cancellable;
  }

  #lost(error: GodwitError): void {
    const { reconnectTimeoutMs } = this.#context;
    this.#log('warn', `the sender's connection was lost: ${error.message}`);
    this.#outage = error;
    this.#giveUp = setTimeout(() => {
      const text = `the sender's connection was lost (${error.message}) and did not come back within ${reconnectTimeoutMs} ms`;
      this.#link.giveUp(new GodwitError('reconnect-timeout', text));
    }, reconnectTimeoutMs);
    this.#context.onChange(this);
  }

  #closed(error: GodwitError | undefined): void {
    clearTimeout(this.#giveUp);
    this.handover.speakThrough(undefined);
    const lost = error ?? new GodwitError('peer-closed', 'the connection was closed');
    this.handover.tell({ type: 'lost', error: lost });
    if (this.#outcome !== undefined) this.#inBackground(this.#finish());
  }

  /** The sender is back on another connection. */
  rejoin(control: Channel, peerReceived: number): void {
    clearTimeout(this.#giveUp);
    control.send('Rejoined', { received: this.#link.received });
    this.#link.join(control, peerReceived);
    if (this.#outage) this.#log('info', 'the sender is back');
    this.#outage = undefined;
    this.#context.onChange(this);
  }

  /** The sender finishes the handover from its journal. */
  recover(control: Channel): void {
    clearTimeout(this.#giveUp);
    this.#expects = 'nothing';
    const old = this.#link;
    this.#link = this.#newLink(control);
    old.close();
  }

  /** Lets go of what is between the agents; the journal has it. */
  leave(): void {
    this.#inBackground(this.#finish());
  }

  /** Makes room for the guest and workers for its pages. */
  async #accept(): Promise<void> {
    const { journal, startGuest, listenHost, dataPorts, credentials, senderFingerprint } =
      this.#context;
    const { migration, epoch, guest, hypervisor, deviceModel, regions, hashSeed } = this.#offer;
    const { name: state } = this.handover.state;
    const known = { guest, hypervisor, peer: this.peer, secret: this.secret };
    await journal.append({ migration, state, epoch, ...known });
    if (!this.cancellable) return; // it has ended before there was anything to undo
    const description: GuestDescription = { name: guest, hypervisor, deviceModel, regions };
    this.#starting = startGuest(description, this.#layout.totalPages * PAGE_SIZE);
    const destination = await this.#starting;
    this.#guest = destination;
    await journal.note(migration, { handle: destination.handle });
    if (!this.cancellable) return;
    if (this.#offer.verify && destination.placement !== 'direct') throw cannotVerify(guest);
    destination.onDeath((error) => this.#guestDied(asGodwitError(error)));
    this.#pool = new ReceivePool({
      channels: this.#welcome.limits.channels,
      listenHost,
      credentials,
      senderFingerprint,
      dataPorts,
      migration,
      secret: this.secret,
      hashSeed,
      layout: this.#layout,
      memory: destination.memory,
      arrivals: this.#forwardTo(destination),
      onFailure: (error) => {
        // Once everything is here, the connections that brought it may go.
        if (this.handover.state.name === 'receiving') this.handover.tell({ type: 'abort', error });
      },
    });
    this.#arrivals = new Arrivals(this.#layout, this.#pool);
    const ports = await this.#pool.listen();
    const verifyRate = await this.#pool.verifyRate();
    if (!this.cancellable) return;
    this.#expects = 'rounds';
    const journalMs = journal.appendMs;
    const { secret } = this;
    const { placement } = destination;
    this.#link.send('Accept', { dataPorts: ports, secret, verifyRate, journalMs, placement });
    this.#enter('precopy');
    this.#log('info', `receiving guest ${guest} from ${this.peer}`);
  }

  #beginRound(message: Parameters<Arrivals['begin']>[0]): void {
    this.#arrivals!.begin(message);
    this.#context.onChange(this);
  }

  #endRound(message: RoundEnd): void {
    this.#arrivals!.end(message);
    if (!this.#arrivals!.last) return this.#inBackground(this.#roundTaken(message.round));
    // The sender computes its digest at the same time; nobody has to wait for the other.
    this.#ownDigest = this.#pool!.digest();
    this.#ownDigest.catch(() => {});
  }

  /** Pages of a guest that is told of them; undefined when its memory is where they arrive. */
  #forwardTo(guest: DestinationGuest): PageSet | undefined {
    if (!guest.pagesArrived) return undefined;
    const arrivals = new PageSet(this.#layout.pfnEnd);
    this.#forwarding = new Forwarding(arrivals, (pages) => guest.pagesArrived!(pages));
    this.#inBackground(this.#forwarding.run());
    return arrivals;
  }

  /** Everything of the round is in the guest's memory: the sender may count on it. */
  async #roundTaken(round: number): Promise<void> {
    await this.#forwarding?.caughtUp();
    if (this.cancellable) this.#link.send('RoundTaken', { round });
  }

  /** All pages and the device state are here: proves it, loads the state and says so. */
  async #complete({ channel }: Digest): Promise<void> {
    this.#expects = 'nothing';
    this.#arrivals!.complete();
    const state = this.#state.whole(this.#hash);
    // Loading may change memory that is to be read again.
    if (this.#offer.verify) await this.#prove(channel);
    // The guest stays paused: loading its state before its memory is proven risks nothing.
    const loading = this.#load(state);
    loading.catch(() => {}); // wrong memory is the better explanation
    if (!this.#offer.verify) await this.#prove(channel);
    await loading;
    this.#expects = 'handover';
    this.#enter('handover');
    this.handover.tell({ type: 'complete' });
  }

  async #load(state: Uint8Array): Promise<void> {
    const started = performance.now();
    await this.#forwarding?.caughtUp();
    await this.#guest!.loadDeviceState(state);
    this.#timings.loadMs = performance.now() - started;
  }

  /** Memory is what the sender has: by digest, and by reading all of it again if asked. */
  async #prove(theirs: readonly bigint[]): Promise<void> {
    const own = await this.#ownDigest!;
    const differs = own.findIndex((digest, i) => digest !== theirs[i]);
    if (own.length !== theirs.length || differs !== -1)
      throw new GodwitError(
        'digest-mismatch',
        `guest memory differs from the sender's on channel ${Math.max(0, differs)}`,
      );
    if (this.#offer.verify) await this.#verify();
  }

  async #verify(): Promise<void> {
    const started = performance.now();
    const wrong = await this.#pool!.verify();
    this.#timings.verifyMs = performance.now() - started;
    if (wrong !== undefined)
      throw new GodwitError(
        'verify-mismatch',
        `page ${wrong} in the destination's memory is not what arrived: check the host's memory`,
      );
  }

  // ---- handover ----------------------------------------------------------

  #newHandover(): DestinationHandover {
    const { journal, attach } = this.#context;
    return new DestinationHandover({
      migration: this.id,
      start: startDestination(this.#offer.epoch),
      journal,
      guest: async () => {
        const guest = await this.#starting?.catch(() => undefined); // it failed on its own account
        if (guest === undefined || !this.#letGoOf) return guest;
        this.#again ??= await attach(this.guestName, guest.handle);
        return this.#again;
      },
      hook: (moment) => this.#context.hook(moment, this),
      preparedIn: () => this.#timings,
      onReport: (moved, error) => this.#report(moved, error),
      onSuspension: ({ ms, clock }) => {
        this.#suspension = { agentMs: ms, guestMs: ms, clock };
      },
      onChange: () => this.#changed(),
      log: (level, text) => this.#log(level, text),
    });
  }

  /** A guest that dies after it was handed over is no longer the migration's business. */
  #guestDied(error: GodwitError): void {
    if (this.cancellable) this.handover.tell({ type: 'abort', error });
  }

  #report(moved: boolean, error: GodwitError | undefined): void {
    this.#outcome = moved ? 'completed' : error?.code === 'cancelled' ? 'cancelled' : 'failed';
    this.#error = error;
    this.#endedMs = performance.now();
    this.#expects = 'nothing';
    if (error) this.#log('warn', `guest ${this.guestName} from ${this.peer}: ${error.message}`);
  }

  #changed(): void {
    this.#context.onChange(this);
    if (this.handover.state.name === 'ended') this.#inBackground(this.#finish());
  }

  /** Once everything is said that belongs to the end. */
  async #finish(): Promise<void> {
    await this.handover.idle();
    this.#again?.close();
    this.#again = undefined;
    if (this.#phase === 'ended') return;
    this.#phase = 'ended';
    await this.#letGo();
    this.#context.onChange(this);
    this.#finished.resolve();
  }

  async #letGo(): Promise<void> {
    this.handover.speakThrough(undefined);
    clearTimeout(this.#giveUp);
    this.#link.close();
    this.#forwarding?.stop();
    await this.#pool?.close();
    this.#letGoOf = true;
    this.#guest?.close();
  }

  /** Work that outlasts the message that asked for it; its failure ends the migration. */
  #inBackground(work: Promise<void>): void {
    work.catch((thrown) => {
      const error = asGodwitError(thrown);
      if (error.code === 'internal') this.#log('error', (error.cause as Error)?.stack ?? '');
      this.handover.tell({ type: 'abort', error });
    });
  }

  // ---- for people --------------------------------------------------------

  #enter(phase: Phase): void {
    this.#phase = phase;
    this.#context.onChange(this);
  }

  #log(level: 'info' | 'warn' | 'error', text: string): void {
    this.#context.log(level, text, this);
  }

  /** Prepared and not told: only the source knows whether it committed. */
  #waitsFor(): string | undefined {
    if (this.#outage) return `the sender, whose connection was lost: ${this.#outage.message}`;
    const waits = this.#phase === 'handover' && this.handover.state.name === 'prepared';
    return waits ? `the source's word whether the guest is to run here` : undefined;
  }

  view(): MigrationView {
    const totals = this.#pool?.totals();
    const round = this.#arrivals?.round;
    return {
      id: this.id,
      role: 'receive',
      guest: this.guestName,
      peer: this.peer,
      phase: this.#phase,
      startedAt: this.#startedAt,
      elapsedMs: (this.#endedMs ?? performance.now()) - this.#startedMs,
      totalPages: this.#layout.totalPages,
      round: round?.number ?? 0,
      roundPages: round?.pages ?? 0,
      roundSent: 0,
      pagesSent: totals?.pages ?? 0,
      wireBytes: totals?.wireBytes ?? 0,
      wireRate: 0,
      drainRate: 0,
      dirtyRate: -1,
      dirtyPages: -1,
      estimate: undefined,
      verdict: this.#verdict && {
        action: this.#verdict.action as 'continue',
        reason: this.#verdict.reason,
      },
      policy: '',
      limits: undefined,
      bandwidth: undefined,
      encodings: totals?.encodings ?? { zero: 0, raw: 0, same: 0, delta: 0, copy: 0 },
      waitsFor: this.#waitsFor(),
      outcome: this.#outcome,
      code: this.#error?.code,
      message: this.#error?.message,
      suspension: this.#suspension,
    };
  }
}

function cannotVerify(guest: string): GodwitError {
  const text = `--verify reads memory again, and that of guest ${guest} cannot be read here: its definition on this host has no "ram"`;
  return new GodwitError('definition-invalid', text);
}
