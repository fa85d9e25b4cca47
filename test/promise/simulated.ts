import type { BootOptions } from '../../lib/guest/simulated/boot.ts';
import type { Host } from '../e2e/host.ts';
import { Site } from '../e2e/site.ts';
import { keepBusy } from './busy-loop.ts';
import { type Asked, GUEST, type Moved, Mover } from './moved.ts';

/** One move of a simulated guest that is booted for it. */
export interface SimulatedMove extends Asked {
  readonly guest: Omit<BootOptions, 'name' | 'dir'>;
}

interface Heartbeat {
  readonly suspensions: readonly { readonly ms: number }[];
}

/** Moves simulated guests, each booted for it, one after the other between the daemons of two hosts. */
export class SimulatedPromises {
  readonly #site: Site;

  private constructor(site: Site) {
    this.#site = site;
  }

  static async open(): Promise<SimulatedPromises> {
    return new SimulatedPromises(await Site.start({ agents: ['A.send', 'B.recv'] }));
  }

  async keep({ guest, ...asked }: SimulatedMove): Promise<Moved> {
    const { A, B } = this.#site;
    await A.boot(guest);
    const mover = new Mover(asked, A, B);
    const calm = asked.busyMachine ? keepBusy() : () => {};
    try {
      const foretold = await mover.foretell();
      const view = await mover.move();
      const { at, guestMs } = await this.#where();
      const records = await mover.ledgerOf(view);
      const suspension = records.find((record) => record.type === 'suspension');
      const { outcome, code, message, enoughMs: ms, elapsedMs } = view;
      const tried = at === A && ms !== undefined;
      const enough = tried
        ? { ms, moved: (await mover.move(ms)).outcome === 'completed' }
        : undefined;
      const ended = { outcome: outcome!, code, message, ms: elapsedMs, guestMs };
      return { asked, foretold, ...ended, suspension, enough };
    } finally {
      calm();
      await this.#clear();
    }
  }

  async close(): Promise<void> {
    await this.#site.end();
  }

  async #where(): Promise<{ readonly at: Host; readonly guestMs: number }> {
    const { A, B } = this.#site;
    for (const at of [B, A]) {
      const heartbeat = await at.ask<Heartbeat>(GUEST, 'query-heartbeat');
      if (heartbeat === undefined) continue;
      const all = heartbeat.suspensions.map(({ ms }) => ms);
      return { at, guestMs: Math.max(0, ...all) };
    }
    throw new Error(`the guest is nowhere\n${this.#site.story()}`);
  }

  async #clear(): Promise<void> {
    const { A, B } = this.#site;
    await this.#site.settled();
    for (const host of [A, B])
      if ((await host.status(GUEST)) !== undefined) await host.quitGuest(GUEST);
  }
}
