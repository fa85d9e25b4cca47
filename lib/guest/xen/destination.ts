import { constants, openSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { Crew } from '../../crew/crew.ts';
import { GodwitError } from '../../errors.ts';
import type { RegionFile } from '../../memory/guest-layout.ts';
import type { PageSet } from '../../memory/page-set.ts';
import type { StateSpool } from '../../memory/state-spool.ts';
import { within } from '../../poll.ts';
import { endProcess } from '../end-process.ts';
import type { DestinationGuest, GuestCopy, GuestDescription } from '../guest.ts';
import { type CopyPlace, type FoundPlace, handleOf } from '../handle.ts';
import { isAlive } from '../process-identity.ts';
import { StagingFile } from '../qemu/staging.ts';
import type { RunState } from '../run-state.ts';
import { requireAllowed, type XenAllowed } from './allowed.ts';
import { XenCopy } from './copy.ts';
import { checkDescription, checkRegions, HYPERVISOR } from './device-model.ts';
import { openXenEgress, type XenEgress } from './egress.ts';
import { endLeftOvers, handGo, pipesIn, Receiver } from './receiver.ts';
import type { Xl } from './xl.ts';

/** As xl calls a domain that it has not been told to run. */
const INCOMING = '--incoming';
/** xl renames and unpauses its domain in a tenth of a second; a machine under load gets more. */
const RUN_LIMIT_MS = 12_000;
const POLL_MS = 50;

export interface XenDestinationOptions {
  readonly xl: Xl;
  readonly allowed: XenAllowed;
  /** As the source gave it; it may come from a peer and is checked. */
  readonly description: GuestDescription;
  /** Where guests' pipes are made. */
  readonly guestDir: string;
  /** Directory for memory that waits to go into xl's stream. */
  readonly stagingDir: string;
  /** Told its handle, as `Hypervisor.arrive`. */
  readonly known: (handle: string) => Promise<void>;
  readonly crew: Crew;
}

/**
 * Starts an `xl migrate-receive` and begins its stream.
 * @throws GodwitError bad-message, definition-invalid, memory-insufficient, ram-file-failed,
 *   guest-exists, hypervisor-failed with xl's own words; not-seen
 */
export async function startXenDestination(
  options: XenDestinationOptions,
): Promise<DestinationGuest> {
  const { xl, allowed, description, guestDir, stagingDir, known, crew } = options;
  const { name } = description;
  const { config, prologue } = checkDescription(description);
  const regions = checkRegions(description);
  requireAllowed(config, allowed);
  await requireAbsent(xl, name, config.uuid);
  const staging = new StagingFile(stagingDir, name, regions);
  const dir = path.join(guestDir, `${name}.xl-receive`);
  const place = { kind: HYPERVISOR, guest: name, socket: dir, uuid: config.uuid, ram: [] };
  await known(handleOf({ ...place, staging: staging.path }));
  const receiver = await Receiver.start(xl, dir);
  const { process } = receiver;
  const found = { ...place, process, staging: staging.path };
  const guest = new XenDestination(xl, found, { receiver, staging, prologue, crew });
  try {
    await known(guest.handle);
    staging.make(config.memoryBytes);
    await guest.open();
    return guest;
  } catch (error) {
    await guest.destroy().catch(() => {}); // what went wrong first is the reason
    throw error;
  }
}

/** @throws GodwitError guest-exists, not-seen */
export async function requireAbsent(xl: Xl, name: string, uuid?: string): Promise<void> {
  const taken = (one: { name: string; uuid: string }) =>
    one.name === name || one.name === `${name}${INCOMING}` || one.uuid === uuid;
  const found = (await xl.list()).find(taken);
  if (found === undefined) return;
  const text = `guest ${found.name} is here already: Xen has a domain of that name or UUID`;
  throw new GodwitError('guest-exists', text);
}

type XenPlace = FoundPlace & { readonly uuid: string };

/** A guest that has arrived, or was about to: its `xl migrate-receive` runs it when it hears GO. */
export class XenDestinationCopy extends XenCopy implements GuestCopy {
  /** It was given up, or has run. */
  #ended = false;

  /** As the journal's handle tells: what is loaded, and hears a commit. */
  protected get loaded(): boolean {
    return true;
  }

  override async state(): Promise<RunState> {
    const domain = await this.domain();
    if (domain === undefined) {
      if (isAlive(this.place.process)) return 'incoming';
      throw new GodwitError('guest-died', `Xen has ended guest ${this.place.guest}`);
    }
    const isOurs = domain.name.endsWith(INCOMING) && domain.state === 'paused';
    return isOurs && !this.loaded ? 'incoming' : domain.state;
  }

  async suspend(onStop?: (agoMs: number) => void): Promise<RunState> {
    onStop?.(0);
    return this.pause();
  }

  /** A domain that waits for GO does nothing by itself. */
  async seal(): Promise<Uint8Array> {
    return new Uint8Array(0);
  }

  /** The point of no return: xl hears GO here, and nowhere else. */
  async resume(): Promise<RunState> {
    const state = await this.state();
    if (state === 'incoming')
      throw new GodwitError('not-started', 'xl cannot run the guest: it has not arrived');
    if (state !== 'paused') return state;
    if (isAlive(this.place.process)) {
      handGo(this.place.socket);
      await this.ran();
    } else await this.#runByHand();
    const now = await this.state().catch(() => 'running' as const); // as it was when xl answered
    if (now === 'paused') throw new GodwitError('hypervisor-failed', 'xl has not run the guest');
    this.finish();
    return now;
  }

  /**
   * Resolves when xl has done what GO tells it, or has ended. @throws GodwitError not-started when it says
   * that it could not
   */
  protected async ran(): Promise<void> {
    const until = performance.now() + RUN_LIMIT_MS;
    while (isAlive(this.place.process) && performance.now() < until) {
      if ((await this.domain())?.state === 'running') return;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  async destroy(): Promise<void> {
    await endProcess(this.place.process);
    await endLeftOvers(this.place.socket);
    await this.end();
    this.finish();
  }

  close(): void {}

  /** Frees what only a guest that arrives needs. */
  protected finish(): void {
    if (this.#ended) return;
    this.#ended = true;
    removeFiles(this.place);
  }

  /** xl has died of something: its domain is whole, and what is left is a name and a word. */
  async #runByHand(): Promise<void> {
    const { guest } = this.place;
    const domain = await this.domain();
    if (domain === undefined) throw new GodwitError('guest-died', `Xen has ended guest ${guest}`);
    if (domain.name !== guest) await this.xl.rename(domain.domid, guest);
    await this.xl.unpause(domain.domid);
  }
}

/** Frees what a guest that arrived, or did not, has left behind. */
export function removeFiles({ socket, staging }: CopyPlace): void {
  rmSync(socket, { recursive: true, force: true });
  if (staging !== undefined) rmSync(staging, { force: true });
}

interface Parts {
  readonly receiver: Receiver;
  readonly staging: StagingFile;
  readonly prologue: Buffer;
  readonly crew: Crew;
}

class XenDestination extends XenDestinationCopy implements DestinationGuest {
  readonly placement = 'stream';
  readonly memory: readonly RegionFile[];
  readonly #receiver: Receiver;
  readonly #staging: StagingFile;
  readonly #egress: XenEgress;
  readonly #death = Promise.withResolvers<GodwitError>();
  #isLoaded = false;

  constructor(xl: Xl, place: XenPlace, { receiver, staging, prologue, crew }: Parts) {
    super(xl, place);
    this.memory = staging.memory;
    this.#receiver = receiver;
    this.#staging = staging;
    const died = (error: GodwitError) => this.#death.resolve(error);
    // Opened here: a worker would count it as its own although a socket closes it.
    const pipe = openSync(pipesIn(receiver.dir).input, constants.O_WRONLY | constants.O_NONBLOCK);
    const data = { pipe, prologue, staged: staging.memory };
    this.#egress = openXenEgress(crew, data, died);
    receiver.onDeath(died);
  }

  protected override get loaded(): boolean {
    return this.#isLoaded;
  }

  /** xl greets, and is given the beginning. */
  async open(): Promise<void> {
    await this.#receiver.greeted();
    await this.#orDead(this.#egress.open());
  }

  pagesArrived(pages: PageSet): Promise<void> {
    return this.#orDead(this.#egress.round(pages));
  }

  async loadDeviceState(state: StateSpool): Promise<void> {
    await this.#orDead(this.#egress.finish(state.share));
    await this.#receiver.loaded();
    this.#isLoaded = true;
    await this.#egress.stop();
    this.#staging.remove();
  }

  onDeath(listener: (error: Error) => void): void {
    void this.#death.promise.then(listener);
  }

  protected override async ran(): Promise<void> {
    const late = () =>
      new GodwitError('hypervisor-failed', 'xl does not say whether it runs the guest');
    const code = await within(RUN_LIMIT_MS, this.#receiver.reported(), late);
    if (code === 0) return;
    throw new GodwitError('not-started', `xl could not run the guest: code ${code}`);
  }

  override async destroy(): Promise<void> {
    await this.#egress.stop();
    await super.destroy();
    this.#receiver.close();
  }

  override close(): void {
    void this.#egress.stop();
    this.#receiver.close();
  }

  /** What xl says as it ends tells more than that its stream is lost. */
  async #orDead<T>(work: Promise<T>): Promise<T> {
    work.catch(() => {});
    return Promise.race([
      work,
      this.#death.promise.then((error) => {
        throw error;
      }),
    ]);
  }
}
