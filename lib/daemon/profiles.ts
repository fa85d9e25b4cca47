import { GodwitError } from '../errors.ts';
import type { Guests } from '../guest/guests.ts';
import type { GuestTrouble } from '../guest/hypervisor.ts';
import type { Observation, Profiling } from '../guest/profile.ts';
import { log } from '../log.ts';
import type { GuestRecords } from '../ownership/guest-record.ts';
import { spreadOf } from '../precopy/pace.ts';
import type { GuestProfile } from '../precopy/profile.ts';
import { keepProfile } from '../report/profile-file.ts';

interface Running {
  readonly hypervisor: string;
  readonly ended: AbortController;
  readonly over: Promise<unknown>;
}

/**
 * The profiles that are being taken. A guest that is moved has none taken, and one of which one is
 * taken is not moved: whoever comes second is refused.
 */
export class Profiles {
  readonly #stateDir: string;
  readonly #guests: Guests;
  readonly #records: GuestRecords;
  readonly #running = new Map<string, Running>();

  constructor(stateDir: string, guests: Guests, records: GuestRecords) {
    this.#stateDir = stateDir;
    this.#guests = guests;
    this.#records = records;
  }

  /** Guests that cannot be looked at meanwhile: QEMU's monitor is held. */
  get lines(): readonly GuestTrouble[] {
    return [...this.#running].map(([name, { hypervisor }]) => {
      return { name, hypervisor, trouble: 'its profile is being taken' };
    });
  }

  /** Takes one and keeps it. @throws GodwitError unknown-guest, guest-busy, as `Guest.profile` */
  async take(name: string, profiling: Profiling): Promise<GuestProfile> {
    const guest = await this.#guests.find(name);
    const giveBack = await this.#records.lend(name, 'profiled');
    const { hypervisor } = guest;
    const ended = new AbortController();
    const signal = AbortSignal.any([profiling.signal, ended.signal]);
    const time = new Date().toISOString();
    const taken = guest.profile({ ...profiling, signal }).finally(() => {
      this.#running.delete(name);
      giveBack();
    });
    this.#running.set(name, { hypervisor, ended, over: taken.catch(() => {}) });
    const profile = profileOf(name, time, await taken);
    // It is worth showing even where there is no room for it.
    await keepProfile(this.#stateDir, profile).catch((error) => log('warn', error.message, name));
    return profile;
  }

  /** Ends one that is being taken: nothing is kept of it. @throws GodwitError too-late */
  end(name: string): void {
    const running = this.#running.get(name);
    if (running === undefined)
      throw new GodwitError('too-late', `no profile of guest ${name} is being taken`);
    running.ended.abort(new GodwitError('cancelled', `the profile of guest ${name} was ended`));
  }

  /** Ends all of them, and resolves when nothing watches any guest. */
  async endAll(reason: GodwitError): Promise<void> {
    const all = [...this.#running.values()];
    for (const { ended } of all) ended.abort(reason);
    await Promise.all(all.map(({ over }) => over));
  }
}

function profileOf(
  guest: string,
  time: string,
  { passes, ...observed }: Observation,
): GuestProfile {
  const profile = { guest, time, ...observed };
  const pace = passes && spreadOf(profile, passes);
  return pace === undefined ? profile : { ...profile, pace };
}
