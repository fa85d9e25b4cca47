import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import type { MigrationView, Phase } from '../lib/control/view.ts';
import { asGodwitError, GodwitError } from '../lib/errors.ts';
import type { DestinationGuest, GuestDescription } from '../lib/guest/guest.ts';
import {
  type DestinationEffect,
  type DestinationEvent,
  type DestinationState,
  destinationStep,
  startDestination,
} from '../lib/handover/destination-machine.ts';
import { HandoverDriver } from '../lib/handover/driver.ts';
import { type GuestLayout, PAGE_SIZE } from '../lib/memory/guest-layout.ts';
import { PageHash } from '../lib/pages/hash.ts';
import { ReceivePool } from '../lib/pages/receive-pool.ts';
import type { Outcome } from '../lib/report/records.ts';
import { Channel, type Received } from '../lib/wire/channel.ts';
import { checkGuestOffer, chooseWelcome, SECRET_SIZE } from '../lib/wire/handshake.ts';
import type {
  Digest,
  GuestOffer,
  Hello,
  RoundEnd,
  Verdict,
  Welcome,
} from '../lib/wire/messages.ts';
import { receiveTerms } from '../lib/wire/terms.ts';
import { Arrivals } from './arrivals.ts';

import { StateParts } from './state-parts.ts';

export interface ReceiveContext {
  readonly listenHost: string;
  readonly dataPorts: { readonly first: number; readonly last: number } | undefined;
  readonly peerTimeoutMs: number;
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
  readonly #context: ReceiveContext;
  readonly #control: Channel;
  readonly #startedAt = new Date().toISOString();
  readonly #startedMs = performance.now();
  readonly #finished = Promise.withResolvers<void>();
  #driver: HandoverDriver<DestinationState, DestinationEvent, DestinationEffect> | undefined;
  #phase: Phase = 'connecting';
  #expects: 'Hello' | 'GuestOffer' | 'rounds' | 'handover' | 'nothing' = 'Hello';
  #welcome: Welcome | undefined;
  #offer: GuestOffer | undefined;
  #layout: GuestLayout | undefined;
  #hash: PageHash | undefined;
  #guest: DestinationGuest | undefined;
  #pool: ReceivePool | undefined;
  #arrivals: Arrivals | undefined;
  #state = new StateParts();
  /** Begun when the last round has ended. */
  #ownDigest: Promise<bigint[]> | undefined;
  #timings = { verifyMs: 0, loadMs: 0, resumeMs: 0 };
  #verdict: Verdict | undefined;
  #suspension: MigrationView['suspension'];
  #outcome: Outcome | undefined;
  #error: GodwitError | undefined;
  #endedMs: number | undefined;

  constructor(socket: Socket, context: ReceiveContext) {
    const { peerTimeoutMs } = context;
    this.peer = `${socket.remoteAddress ?? 'unknown'}:${socket.remotePort ?? 0}`;
    this.#context = context;
    this.#control = new Channel(socket, {
      side: 'receiver',
      connection: 'control',
      keepAlive: { pingMs: Math.min(1000, peerTimeoutMs / 4), silenceMs: peerTimeoutMs },
      onMessage: (received) => this.#receive(received),
      onClose: (error) =>
        this.#end({
          type: 'lost',
          error: error ?? new GodwitError('peer-closed', 'the connection was closed'),
        }),
    });
  }

  /** The sender's id for the migration; empty until it has made an offer. */
  get id(): string {
    return this.#offer?.migration ?? '';
  }

  get guestName(): string {
    return this.#offer?.guest ?? '';
  }

  /** Bytes of guest memory that are promised and not yet filled. */
  get owedBytes(): number {
    if (this.#outcome !== undefined || !this.#layout) return 0;
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
    const state = this.#driver?.state.name;
    return state !== 'running' && state !== 'closed' && this.#outcome === undefined;
  }

  /** Gives the migration up. @throws GodwitError too-late once the guest runs here */
  cancel(
    error = new GodwitError('cancelled', 'the migration was cancelled at the destination'),
  ): void {
    if (!this.cancellable)
      throw new GodwitError('too-late', 'the migration has ended or the guest runs here already');
    this.#end({ type: 'abort', error });
  }

  // ---- what the sender says ----------------------------------------------

  #receive(received: Received): void {
    const { kind, message } = received;
    switch (this.#expects) {
      case 'Hello':
        if (kind === 'Hello') return this.#greet(message);
        break;
      case 'GuestOffer':
        if (kind === 'GuestOffer') return this.#inBackground(this.#accept(message));
        break;
      case 'rounds':
        if (kind === 'RoundBegin') return this.#beginRound(message);
        if (kind === 'DirtyList') return this.#arrivals!.list(message);
        if (kind === 'RoundEnd') return this.#endRound(message);
        if (kind === 'Suspend') return this.#enter('stop-and-copy');
        if (kind === 'DeviceState') return this.#state.add(message, received.payload);
        if (kind === 'Digest') return this.#inBackground(this.#complete(message));
        break;
      case 'handover':
        if (kind === 'Commit') return this.#dispatch({ type: 'commit', epoch: message.epoch });
        if (kind === 'Released') return this.#dispatch({ type: 'released', epoch: message.epoch });
    }
    if (kind === 'Verdict') {
      this.#verdict = message;
      return this.#context.onChange(this);
    }
    throw new GodwitError('bad-message', `the sender sent ${kind} where it has no place`);
  }

  #greet(hello: Hello): void {
    this.#welcome = chooseWelcome(hello, receiveTerms());
    this.#control.send('Welcome', this.#welcome);
    this.#expects = 'GuestOffer';
  }

  /** Makes room for the guest and workers for its pages. */
  async #accept(offer: GuestOffer): Promise<void> {
    this.#expects = 'nothing';
    this.#layout = checkGuestOffer(offer);
    this.#offer = offer;
    this.#hash = new PageHash(offer.hashSeed);
    this.#driver = new HandoverDriver(destinationStep, startDestination(offer.epoch), (effect) =>
      this.#perform(effect),
    );
    const description: GuestDescription = {
      name: offer.guest,
      hypervisor: offer.hypervisor,
      deviceModel: offer.deviceModel,
      regions: offer.regions,
    };
    this.#guest = await this.#context.startGuest(description, this.#layout.totalPages * PAGE_SIZE);
    this.#guest.onDeath((error) => this.#guestDied(asGodwitError(error)));
    if (this.#outcome !== undefined) return this.#letGo(); // the sender left in the meantime
    const secret = randomBytes(SECRET_SIZE);
    this.#pool = new ReceivePool({
      channels: this.#welcome!.limits.channels,
      listenHost: this.#context.listenHost,
      dataPorts: this.#context.dataPorts,
      migration: offer.migration,
      secret,
      hashSeed: offer.hashSeed,
      layout: this.#layout,
      memory: this.#guest.memory,
      onFailure: (error) => this.#end({ type: 'abort', error }),
    });
    this.#arrivals = new Arrivals(this.#layout, this.#pool);
    const dataPorts = await this.#pool.listen();
    const verifyRate = await this.#pool.verifyRate();
    if (this.#outcome !== undefined) return;
    this.#expects = 'rounds';
    this.#control.send('Accept', { dataPorts, channelSecret: secret, verifyRate });
    this.#enter('precopy');
    this.#log('info', `receiving guest ${offer.guest} from ${this.peer}`);
  }

  #beginRound(message: Parameters<Arrivals['begin']>[0]): void {
    this.#arrivals!.begin(message);
    this.#context.onChange(this);
  }

  #endRound(message: RoundEnd): void {
    this.#arrivals!.end(message);
    if (!this.#arrivals!.last) return;
    // The sender computes its digest at the same time; nobody has to wait for the other.
    this.#ownDigest = this.#pool!.digest();
    this.#ownDigest.catch(() => {});
  }

  /** All pages and the device state are here: proves it, loads the state and says so. */
  async #complete({ channel }: Digest): Promise<void> {
    this.#expects = 'nothing';
    this.#arrivals!.complete();
    const state = this.#state.whole(this.#hash!);
    // The guest stays paused: loading its state before its memory is proven risks nothing.
    const loading = this.#load(state);
    loading.catch(() => {}); // wrong memory is the better explanation
    await this.#prove(channel);
    await loading;
    this.#expects = 'handover';
    this.#enter('handover');
    this.#dispatch({ type: 'complete' });
  }

  async #load(state: Uint8Array): Promise<void> {
    const started = performance.now();
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
    if (this.#offer!.verify) await this.#verify();
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

  #dispatch(event: DestinationEvent): void {
    this.#driver!.dispatch(event).catch((thrown) =>
      this.#log('error', `${event.type}: ${asGodwitError(thrown).message}`),
    );
  }

  async #perform(effect: DestinationEffect): Promise<void> {
    switch (effect.type) {
      case 'send-prepared': {
        const { verifyMs, loadMs } = this.#timings;
        this.#control.send('Prepared', { epoch: effect.epoch, verifyMs, loadMs });
        return;
      }
      case 'resume-guest':
        return this.#resume();
      case 'send-running':
        if (this.#driver!.state.name === 'discarded') return; // it did not start
        this.#control.send('Running', { epoch: effect.epoch, resumeMs: this.#timings.resumeMs });
        return;
      case 'send-closed':
        return this.#sendClosed(effect.epoch);
      case 'send-refused': {
        const { code, message: text } = effect.error;
        this.#control.send('Refused', { epoch: effect.epoch, code, text });
        return;
      }
      case 'send-abort':
        this.#control.destroy(effect.error);
        return;
      case 'discard-guest':
        return this.#guest?.discard();
      case 'end':
        return this.#finish(effect.state === 'closed', effect.error);
    }
  }

  async #resume(): Promise<void> {
    const started = performance.now();
    try {
      await this.#guest!.resume();
      this.#timings.resumeMs = performance.now() - started;
      this.#log('info', `guest ${this.guestName} runs here`);
    } catch (thrown) {
      this.#dispatch({ type: 'resume-failed', error: asGodwitError(thrown) });
    }
  }

  async #sendClosed(epoch: number): Promise<void> {
    const seen = await this.#guest!.suspension().catch(() => undefined);
    this.#suspension = { agentMs: seen?.ms ?? 0, guestMs: seen?.ms, clock: seen?.clock };
    this.#control.send('Closed', {
      epoch,
      guestSuspensionMs: seen?.ms ?? -1,
      clock: seen?.clock ?? '',
    });
  }

  /** A guest that dies after it was handed over is no longer the migration's business. */
  #guestDied(error: GodwitError): void {
    if (this.#driver!.state.name === 'running') return;
    this.#end({ type: 'abort', error });
  }

  /** Ends the migration, whether or not it got as far as a handover. */
  #end(event: DestinationEvent & { error: GodwitError }): void {
    if (this.#driver) return this.#dispatch(event);
    if (this.#outcome !== undefined) return;
    if (event.type === 'abort') this.#control.destroy(event.error);
    this.#inBackground(this.#finish(false, event.error));
  }

  async #finish(moved: boolean, error: GodwitError | undefined): Promise<void> {
    if (this.#outcome !== undefined) return;
    this.#outcome = moved ? 'completed' : error?.code === 'cancelled' ? 'cancelled' : 'failed';
    this.#error = error;
    this.#endedMs = performance.now();
    this.#expects = 'nothing';
    await this.#letGo();
    this.#phase = 'ended';
    const what = this.guestName === '' ? 'connection' : `guest ${this.guestName}`;
    if (error && moved)
      this.#log('warn', `${what} runs here; the sender was lost: ${error.message}`);
    else if (error) this.#log('warn', `${what} from ${this.peer}: ${error.message}`);
    this.#context.onChange(this);
    this.#finished.resolve();
  }

  async #letGo(): Promise<void> {
    this.#control.close();
    await this.#pool?.close();
    // A guest that was still being started when the migration ended.
    if (this.#outcome !== 'completed') await this.#guest?.discard().catch(() => {});
    this.#guest?.close();
  }

  /** Work that outlasts the message that asked for it; its failure ends the migration. */
  #inBackground(work: Promise<void>): void {
    work.catch((thrown) => {
      const error = asGodwitError(thrown);
      if (error.code === 'internal') this.#log('error', (error.cause as Error)?.stack ?? '');
      this.#end({ type: 'abort', error });
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
      totalPages: this.#layout?.totalPages ?? 0,
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
      outcome: this.#outcome,
      code: this.#error?.code,
      message: this.#error?.message,
      suspension: this.#suspension,
    };
  }
}
