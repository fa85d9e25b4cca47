import { GodwitError } from '../../errors.ts';
import { poll } from '../../poll.ts';
import type { GuestCopy, GuestSuspension } from '../guest.ts';
import { type FoundPlace, handleOf } from '../handle.ts';
import { isAlive } from '../process-identity.ts';
import type { RunState } from '../run-state.ts';
import { TransportClient, type TransportCommand } from './transport-protocol.ts';
import type { Xl, XlDomain } from './xl.ts';

/** xl resumes or destroys its domain in less than a second; a machine under load gets more. */
export const XL_LIMIT_MS = 12_000;
const POLL_MS = 100;

/** The domain of a place: another one of the same UUID, which has come later, is not it. @throws as `Xl.domain` */
export async function domainAt(
  xl: Xl,
  { uuid, domid }: { readonly uuid: string; readonly domid?: number },
): Promise<XlDomain | undefined> {
  const found = await xl.domain(uuid);
  return domid === undefined || found?.domid === domid ? found : undefined;
}

/** A guest of Xen by its domain: both sides of a migration build on it. */
export abstract class XenCopy {
  protected readonly xl: Xl;
  protected readonly place: FoundPlace & { readonly uuid: string };

  constructor(xl: Xl, place: FoundPlace & { readonly uuid: string }) {
    this.xl = xl;
    this.place = place;
  }

  get handle(): string {
    return handleOf(this.place);
  }

  /** Undefined when there is none, which xl has to say. @throws GodwitError not-seen */
  protected domain(): Promise<XlDomain | undefined> {
    return domainAt(this.xl, this.place);
  }

  async state(): Promise<RunState> {
    const domain = await this.domain();
    if (domain !== undefined) return domain.state;
    throw new GodwitError('guest-died', `Xen has ended guest ${this.place.guest}`);
  }

  /** The guest has no heartbeat that is known here. */
  async suspension(): Promise<GuestSuspension | undefined> {
    return undefined;
  }

  /** Whoever must not run: a domain that is paused does nothing by itself. */
  protected async pause(): Promise<RunState> {
    const domain = await this.domain();
    if (domain?.state === 'running') await this.xl.pause(domain.domid);
    return this.state();
  }

  /** Ends the domain if xl, which would do so, has not. @throws GodwitError hypervisor-failed, not-seen */
  protected async end(): Promise<void> {
    const domain = await this.domain();
    if (domain !== undefined) await this.xl.destroy(domain.domid);
    const gone = async () => ((await this.domain()) === undefined ? true : undefined);
    if (await poll(XL_LIMIT_MS, POLL_MS, gone)) return;
    const text = `Xen has not ended guest ${this.place.guest} within ${XL_LIMIT_MS / 1000}s`;
    throw new GodwitError('hypervisor-failed', text);
  }
}

/**
 * The guest at its source: xl has it, and does to it what its transport says. Where xl has ended, this does
 * what it would have done.
 */
export class XenSourceCopy extends XenCopy implements GuestCopy {
  /** Undefined: it has ended, and nothing can be said to xl any more. */
  protected transport: TransportClient | undefined;

  constructor(
    xl: Xl,
    place: FoundPlace & { readonly uuid: string },
    transport: TransportClient | undefined,
  ) {
    super(xl, place);
    this.transport = transport;
  }

  /** The guest of a journal's handle: a transport that xl was told "ready" through waits for its end. */
  static async found(
    xl: Xl,
    place: FoundPlace & { readonly uuid: string },
  ): Promise<XenSourceCopy> {
    const transport = await TransportClient.connect(place.socket).catch(() => undefined);
    const isOurs = transport?.greeted.xl.pid === place.process.pid;
    if (!isOurs) transport?.close();
    return new XenSourceCopy(xl, place, isOurs ? transport : undefined);
  }

  /** xl suspends the guest by itself: whoever must not run is paused. */
  async suspend(onStop?: (agoMs: number) => void): Promise<RunState> {
    onStop?.(0);
    return this.pause();
  }

  async seal(): Promise<Uint8Array> {
    throw new GodwitError('hypervisor-failed', 'only the agent that reads the stream can seal it');
  }

  /** xl resumes it, and its name is what it was; where there is no xl any more, by `xl resume`. */
  async resume(): Promise<RunState> {
    await this.tell('deny');
    const seen = await this.#untilXlHasActed(async () => {
      const state = await this.state();
      return state === 'migrated' ? undefined : state;
    });
    if (seen !== undefined) return seen;
    const { guest } = this.place;
    const domain = await this.domain();
    if (domain === undefined) throw new GodwitError('guest-died', `Xen has ended guest ${guest}`);
    try {
      await this.xl.resume(domain.domid);
      if (domain.name !== guest) await this.xl.rename(domain.domid, guest);
    } catch (cause) {
      const text = `xl has ended and left guest ${guest} suspended as domain ${domain.domid}: ${(cause as Error).message}`;
      throw new GodwitError('hypervisor-failed', text, { cause });
    }
    return this.state();
  }

  /** xl destroys it, told that it runs at its destination; where there is no xl any more, `xl destroy` does. */
  async destroy(): Promise<void> {
    await this.tell('runs');
    await this.#untilXlHasActed(async () =>
      (await this.domain()) === undefined ? true : undefined,
    );
    await this.end();
  }

  close(): void {
    this.transport?.close();
    this.transport = undefined;
  }

  /**
   * Nothing is said where the transport has ended. @throws GodwitError hypervisor-failed where xl was told
   * the opposite, and so does that
   */
  protected async tell(command: TransportCommand): Promise<void> {
    try {
      await this.transport?.tell(command);
    } catch (error) {
      const { code } = error as GodwitError;
      if (code !== 'guest-died') throw error;
      this.close();
    }
  }

  /** What is seen once xl has done it; undefined when xl has ended and it is not to be seen. */
  async #untilXlHasActed<T>(look: () => Promise<T | undefined>): Promise<T | undefined> {
    const until = performance.now() + XL_LIMIT_MS;
    for (;;) {
      const lives = isAlive(this.place.process);
      const seen = await look();
      if (seen !== undefined || !lives) return seen;
      if (performance.now() > until)
        throw new GodwitError('hypervisor-failed', 'xl, which was told to, does nothing');
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
}
