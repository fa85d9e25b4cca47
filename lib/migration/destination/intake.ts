import { DiskDoor } from '../../disks/disk-lane.ts';
import { GodwitError } from '../../errors.ts';
import type { DestinationGuest } from '../../guest/guest.ts';
import { PageSet } from '../../memory/page-set.ts';
import { StateSpool } from '../../memory/state-spool.ts';
import { ReceivePool } from '../../pages/receive-pool.ts';
import type { Received } from '../../wire/connection.ts';
import { portsToTry } from '../../wire/lane-door.ts';
import type { DeviceState, RoundEnd } from '../../wire/messages.ts';
import { LOAD_FEATURE } from '../../wire/terms.ts';
import { Arrivals } from '../arrivals.ts';
import { Forwarding } from '../forwarding.ts';
import type { Basis } from './basis.ts';

/** Everything that the sender has of the guest, as it says. */
export interface Arrived {
  /** Digests of memory, by lane: the sender's and what is here. */
  readonly theirs: readonly bigint[];
  readonly own: Promise<readonly bigint[]>;
}

export interface IntakeOptions {
  readonly pool: ReceivePool;
  /** Of a guest whose disks come with it. */
  readonly disks: DiskDoor | undefined;
  readonly arrivals: Arrivals;
  /** For a hypervisor that has to be told of its pages. */
  readonly forwarding: Forwarding | undefined;
  /** Where the device state comes in. */
  readonly state: StateSpool;
  /** Everything of the round is in the guest's memory: the sender may count on it. */
  readonly onTaken: (round: number) => void;
  /** The guest is suspended; what it did before, and is to do here. */
  readonly onSuspend: (runState: string) => void;
  readonly onChange: () => void;
  /** Reading or forwarding failed, outside of any message. */
  readonly onFailure: (thrown: unknown) => void;
}

/** The rounds as they come in, from Accept until the sender has said Digest. */
export class Intake {
  readonly #options: IntakeOptions;
  readonly #arrived = Promise.withResolvers<Arrived>();
  readonly #memoryHere = Promise.withResolvers<void>();
  /** Begun when the last round has ended. */
  #own: Promise<bigint[]> | undefined;
  /** What the sender says of it at its end. */
  #stateSaid: DeviceState | undefined;
  #over = false;

  constructor(options: IntakeOptions) {
    this.#options = options;
  }

  /** Resolves when all of it is said; never rejects. */
  get arrived(): Promise<Arrived> {
    return this.#arrived.promise;
  }

  /** Resolves when every page of the guest has arrived; never rejects. */
  get memoryHere(): Promise<void> {
    return this.#memoryHere.promise;
  }

  /** The device state; its end may still be on the way. */
  get state(): StateSpool {
    return this.#options.state;
  }

  get pool(): ReceivePool {
    return this.#options.pool;
  }

  get disks(): DiskDoor | undefined {
    return this.#options.disks;
  }

  /** Bytes heard from the sender on its data connections. */
  get heardBytes(): number {
    return this.pool.heardBytes + (this.disks?.counted.heardBytes ?? 0);
  }

  /** Resolves when the guest's memory has all pages that have arrived before the call. */
  async caughtUp(): Promise<void> {
    await this.#options.forwarding?.caughtUp();
  }

  /**
   * Resolves when all of the device state is here and what was sent, after `arrived`.
   * @throws GodwitError device-state-invalid; cancelled when it is wanted no more
   */
  async stateProven(): Promise<void> {
    const { progress } = this.state;
    const { lane } = this.#stateSaid!;
    if (lane.length !== progress.writers)
      throw stateInvalid(
        `digests of ${lane.length} lanes were told, there are ${progress.writers}`,
      );
    await progress.whole();
    const differs = lane.findIndex((digest, i) => digest !== progress.digestOf(i));
    if (differs === -1) return;
    throw stateInvalid(`its parts on lane ${differs} are not those that were sent`);
  }

  /** What the sender says of its rounds; false when it is about something else, or all is said. */
  hear({ kind, message }: Received): boolean {
    if (this.#over) return false;
    const { arrivals, onChange, onSuspend } = this.#options;
    switch (kind) {
      case 'RoundBegin':
        arrivals.begin(message);
        onChange();
        return true;
      case 'DirtyList':
        arrivals.list(message);
        return true;
      case 'RoundEnd':
        this.#endRound(message);
        return true;
      case 'Suspend':
        onSuspend(message.runState);
        return true;
      case 'DeviceState':
        this.state.progress.endAt(message.bytes);
        this.#stateSaid = message;
        return true;
      case 'Digest':
        this.#complete(message.lane);
        return true;
      default:
        return false;
    }
  }

  #endRound(message: RoundEnd): void {
    const { arrivals, pool, onTaken, onFailure } = this.#options;
    arrivals.end(message);
    if (!arrivals.last) {
      this.caughtUp()
        .then(() => onTaken(message.round))
        .catch(onFailure);
      return;
    }
    arrivals.complete();
    this.#memoryHere.resolve();
    // The sender computes its digest at the same time; nobody has to wait for the other.
    this.#own = pool.digest();
    this.#own.catch(() => {});
  }

  #complete(theirs: readonly bigint[]): void {
    this.#options.arrivals.complete();
    if (this.#stateSaid === undefined) throw stateInvalid('nothing was said of it before Digest');
    this.#over = true;
    this.#arrived.resolve({ theirs, own: this.#own! });
  }
}

/** Opens a lane for each of the sender's, into the memory of the guest. */
export function openIntake(
  basis: Basis,
  guest: DestinationGuest,
  events: Pick<IntakeOptions, 'onTaken' | 'onFailure'>,
): Intake {
  const { context, layout, facts, releases, handover } = basis;
  const pages = guest.pagesArrived && new PageSet(layout.pfnEnd);
  const forwarding = pages && new Forwarding(pages, (set) => guest.pagesArrived!(set));
  if (forwarding) {
    releases.add(() => forwarding.stop());
    forwarding.run().catch(events.onFailure);
  }
  const state = StateSpool.open(context.ramDir, basis.welcome.limits.lanes);
  const pool = newPool(basis, guest, pages, state);
  releases.add(() => pool.close());
  releases.add(() => state.close());
  const arrivals = new Arrivals(layout, pool);
  const disks = guest.disksSocket === undefined ? undefined : newDoor(basis, guest.disksSocket);
  if (disks !== undefined) releases.add(() => disks.close());
  facts.count(() => {
    const diskBytes = disks?.counted.bytes ?? 0;
    return { totals: pool.totals(), diskBytes, round: { ...arrivals.round, sent: 0 } };
  });
  const onSuspend = (runState: string) => {
    if (runState !== 'running' && runState !== 'paused')
      throw new GodwitError('bad-message', `no guest arrives ${JSON.stringify(runState)}`);
    handover.remember(runState);
    facts.enter('stop-and-copy');
  };
  const { onChange } = context;
  return new Intake({ pool, disks, arrivals, forwarding, state, onSuspend, onChange, ...events });
}

function newPool(
  { offer, welcome, context, layout, secret, handover }: Basis,
  { memory, kept = [] }: DestinationGuest,
  arrivals: PageSet | undefined,
  state: StateSpool,
): ReceivePool {
  const { crew, listenHost, dataPorts, credentials, senderFingerprint, peerTimeoutMs } = context;
  return new ReceivePool({
    crew,
    lanes: welcome.limits.lanes,
    tellsLoad: welcome.features.includes(LOAD_FEATURE),
    listenHost,
    credentials,
    senderFingerprint,
    dataPorts,
    migration: offer.migration,
    secret,
    peerTimeoutMs,
    hashSeed: offer.hashSeed,
    layout,
    memory,
    state: state.share,
    arrivals,
    kept: kept.length > 0 ? { regions: kept, secret: offer.keptSecret } : undefined,
    onFailure: (error) => lost(handover, error),
  });
}

function newDoor({ offer, welcome, context, secret, handover }: Basis, path: string): DiskDoor {
  const { crew, listenHost, dataPorts, credentials, senderFingerprint, peerTimeoutMs } = context;
  const { migration } = offer;
  const peer = { credentials, senderFingerprint, peerTimeoutMs };
  const where = { listenHost, listenPorts: portsToTry(dataPorts), ...peer };
  const data = { ...where, migration, secret, lane: welcome.limits.lanes, path };
  return new DiskDoor(crew, data, (error) => lost(handover, error));
}

/** Once everything is here, the connections that brought it may go. */
function lost(handover: Basis['handover'], error: GodwitError): void {
  if (handover.state.name === 'receiving') handover.tell({ type: 'abort', error });
}

function stateInvalid(why: string): GodwitError {
  return new GodwitError('device-state-invalid', `device state: ${why}`);
}
