import type { DiskLane } from '../../disks/disk-lane.ts';
import { asGodwitError, GodwitError } from '../../errors.ts';
import type { SendPool } from '../../pages/send-pool.ts';
import { within } from '../../poll.ts';
import type { Rounds } from '../../precopy/rounds/rounds.ts';
import type { Received } from '../../wire/connection.ts';
import { openControlLink } from '../../wire/control-link.ts';
import { dialControl } from '../../wire/dial.ts';
import { type Link, STALL_FACTOR } from '../../wire/link.ts';
import type { Accept, Closed, Running } from '../../wire/messages.ts';
import type { Basis } from './basis.ts';
import { leftToJournal } from './ending.ts';

/** How long the destination may take for its last word, ms; after that it is asked in the background. */
const CLOSED_TIMEOUT_MS = 5000;

/** The destination as the source hears it, over one link and as many connections as it takes. */
export class Conversation {
  readonly #basis: Basis;
  readonly #onRunning: (running: Running) => void;
  readonly #accepted = Promise.withResolvers<Accept>();
  readonly #closed = Promise.withResolvers<Closed | undefined>();
  /** Aborts when nothing is wanted of the destination any more. */
  readonly #over = new AbortController();
  #link: Link | undefined;
  #secret: Uint8Array = new Uint8Array(0);
  /** What depends on it, once there is something. */
  #carried: { readonly pool: SendPool; readonly lane?: DiskLane; rounds?: Rounds } | undefined;

  /** @param onRunning called at once when the destination says that the guest runs there */
  constructor(basis: Basis, onRunning: (running: Running) => void) {
    this.#basis = basis;
    this.#onRunning = onRunning;
  }

  /** What binds connections to this migration; empty until the destination has accepted it. */
  get secret(): Uint8Array {
    return this.#secret;
  }

  /** The destination's Accept. */
  get accepted(): Promise<Accept> {
    return this.#accepted.promise;
  }

  /** True when it hears that the migration ends, and answers. */
  get attentive(): boolean {
    return this.#link?.connected === true && this.#secret.length > 0;
  }

  /** Resolves to the link, to what was agreed and to whom it is with. Given up meanwhile, whoever connects late is sent away. */
  async open() {
    const { id, context, handover } = this.#basis;
    const opened = await openControlLink({
      dial: () => this.#dial(),
      migration: id,
      secret: () => this.#secret,
      giveUpMs: context.reconnectTimeoutMs,
      stallMs: context.peerTimeoutMs * STALL_FACTOR,
      answerMs: Math.max(context.connectTimeoutMs, context.peerTimeoutMs),
      heardElsewhere: () => this.#heardElsewhere,
      onMessage: (received) => this.#receive(received),
      mayRejoin: () => this.#mayRejoin,
      onLost: (error) => this.#lost(error),
      onBack: () => this.#back(),
      onClose: (error) => this.#ended(error),
    });
    const { link } = opened;
    this.#link = link;
    if (this.#over.signal.aborted) link.close();
    else handover.speakThrough(link);
    return opened;
  }

  /** The migration is accepted: from here on the destination knows it by the secret. */
  agreed(secret: Uint8Array): void {
    this.#secret = secret;
  }

  /** Lanes go beside it: what is lost comes back from here on. */
  carry(pool: SendPool, lane: DiskLane | undefined): void {
    this.#carried = { pool, ...(lane && { lane }) };
  }

  /** The rounds that the destination is to take. */
  rounds(rounds: Rounds): void {
    this.#carried!.rounds = rounds;
  }

  /** Caps the lanes, when there are any, bytes per second. */
  setBandwidth(cap: number | undefined): void {
    this.#carried?.pool.setBandwidth(cap);
  }

  /** Commit is said: a destination that does not answer it is asked again, on a new connection. */
  awaitAnswer(): void {
    const { context, ending } = this.#basis;
    const silent = new GodwitError('peer-silent', 'the destination does not answer Commit');
    within(context.peerTimeoutMs, ending.or(ending.moved), () => silent).catch((error) => {
      if (error === silent) this.#link?.destroy(silent);
    });
  }

  /** What the destination says last; undefined when it does not come in time. */
  async lastWord(): Promise<Closed | undefined> {
    const timer = setTimeout(() => this.#closed.resolve(undefined), CLOSED_TIMEOUT_MS);
    const closed = await this.#closed.promise;
    clearTimeout(timer);
    return closed;
  }

  close(): void {
    this.#over.abort();
    this.#link?.close();
    this.#carried = undefined;
  }

  #dial() {
    const { request, context } = this.#basis;
    const { host, port } = request;
    const { connectTimeoutMs, peerTimeoutMs, security } = context;
    const lanes = request.lanes ?? context.lanes;
    const { signal } = this.#over;
    return dialControl({ host, port, security, lanes, peerTimeoutMs, connectTimeoutMs, signal });
  }

  #receive(received: Received): void {
    const { kind, message } = received;
    switch (kind) {
      case 'Accept':
        return this.#accepted.resolve({ ...message, secret: Uint8Array.from(message.secret) });
      case 'HostFacts':
        return this.#basis.facts.host('destination', message);
      case 'RoundTaken':
        return this.#carried?.rounds?.taken(message.round);
      case 'Running':
        this.#onRunning(message);
        break;
      case 'Closed':
        this.#closed.resolve(message);
    }
    if (!this.#basis.handover.hear(received))
      throw new GodwitError('bad-message', `the receiver sent ${kind} where it has no place`);
  }

  get #heardElsewhere(): number {
    const { pool, lane } = this.#carried ?? {};
    return (pool?.heardBytes ?? 0) + (lane?.counted.heardBytes ?? 0);
  }

  /** Before commit the stream goes on where it was cut; after it, see `Settlement`. */
  get #mayRejoin(): boolean {
    const { context, ending } = this.#basis;
    return context.reconnectTimeoutMs > 0 && this.#carried !== undefined && ending.cancellable;
  }

  /** The guest runs on while the connections are made again. */
  #lost(error: GodwitError): void {
    const { context, facts } = this.#basis;
    context.log('warn', `the connection was lost: ${error.message}; connecting again`);
    facts.connectionLost(error);
    this.#carried?.pool.suspect(error.message);
    this.#carried?.lane?.suspect(error.message);
  }

  #back(): void {
    this.#basis.facts.connectionBack();
    this.#basis.context.log('info', 'connected again');
  }

  /** The destination cannot be heard any more on this link. */
  #ended(error = new GodwitError('peer-closed', 'the connection was closed')): void {
    const { handover, ending, context } = this.#basis;
    handover.speakThrough(undefined);
    this.#closed.resolve(undefined);
    ending.because(error);
    const report = (thrown: unknown) => context.log('error', asGodwitError(thrown).message);
    handover
      .dispatch({ type: 'lost', error })
      .catch(report)
      .then(() => this.#settleCommitted(error))
      .catch(report);
  }

  /** Given away, and nobody says whether it was taken: asks until it is known. */
  async #settleCommitted(lost: GodwitError): Promise<void> {
    const { handover, ending, context } = this.#basis;
    if (handover.state.name !== 'committed') return;
    context.log('warn', `committed, then the connection was lost: ${lost.message}; asking again`);
    await context.settle();
    if (handover.state.name === 'committed') ending.report(false, leftToJournal());
  }
}
