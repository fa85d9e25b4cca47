import type { Caps } from '../precopy/suspension-rate.ts';

/** What a guest whose turn it is has of the link; those that run share the rest. */
const FIRST_SHARE = 7 / 8;

/** Changes what a migration may send, bytes per second, in whatever phase it is. */
export type Steer = (caps: Required<Caps>) => void;

interface Member {
  caps: Required<Caps>;
  steer: Steer | undefined;
}

/**
 * The link of an evacuation. Guests that run share it equally. One at a time has the turn to be
 * suspended: from its policy's verdict to the end of its suspension it has nearly all of the link, since
 * its limit is a promise, and the others can wait.
 *
 * What a forecast rests on is what its guest will have: the cap of a suspension is always that of the
 * turn. Shares are taken away before they are given, so the sum is never above the total.
 */
export class SharedLink {
  readonly #total: number | undefined;
  readonly #lastPages: number;
  readonly #suspendBandwidth: number | undefined;
  readonly #members = new Map<string, Member>();
  #first: string | undefined;

  /**
   * @param total bytes per second; undefined: nothing is capped, and there are only turns
   * @param parallel guests that are moved at once
   * @param suspendBandwidth what a suspended guest may have at most
   */
  constructor(
    total: number | undefined,
    parallel: number,
    suspendBandwidth: number | undefined = undefined,
  ) {
    this.#total = total;
    this.#lastPages = parallel === 1 ? 1 : FIRST_SHARE;
    this.#suspendBandwidth = suspendBandwidth;
  }

  /** Makes room for one more; what it may have to begin with. */
  join(guest: string): Required<Caps> {
    const member: Member = { caps: this.#capsOf(0), steer: undefined };
    this.#members.set(guest, member);
    this.#share();
    return member.caps;
  }

  /** The guest is on its way, and can be steered. */
  carry(guest: string, steer: Steer): void {
    const member = this.#members.get(guest);
    if (member === undefined) return;
    member.steer = steer;
    steer(member.caps);
  }

  leave(guest: string): void {
    if (!this.#members.delete(guest)) return;
    if (this.#first === guest) this.#first = undefined;
    this.#share();
  }

  /** @returns whether the guest may be suspended now: then it has the link until it gives it back */
  take(guest: string): boolean {
    if (this.#first !== undefined && this.#first !== guest) return false;
    if (!this.#members.has(guest)) return true;
    this.#first = guest;
    this.#share();
    return true;
  }

  /** It is not to be suspended any more, or needs the link no more for it. */
  giveBack(guest: string): void {
    if (this.#first !== guest) return;
    this.#first = undefined;
    this.#share();
  }

  #share(): void {
    const next = [...this.#members].map(
      ([guest, member]) => [member, this.#capsOf(this.#shareOf(guest))] as const,
    );
    const less = ([member, caps]: (typeof next)[number]) =>
      (caps.bandwidth ?? 0) < (member.caps.bandwidth ?? 0);
    for (const [member, caps] of [...next.filter(less), ...next.filter((one) => !less(one))]) {
      if (member.caps.bandwidth === caps.bandwidth) continue;
      member.caps = caps;
      member.steer?.(caps);
    }
  }

  /** Of 1. */
  #shareOf(guest: string): number {
    const { size } = this.#members;
    if (this.#first === undefined || size === 1) return 1 / size;
    return guest === this.#first ? FIRST_SHARE : (1 - FIRST_SHARE) / (size - 1);
  }

  #capsOf(share: number): Required<Caps> {
    const total = this.#total;
    if (total === undefined)
      return { bandwidth: undefined, suspendBandwidth: this.#suspendBandwidth };
    const suspendBandwidth = Math.min(
      total * this.#lastPages,
      this.#suspendBandwidth ?? Number.POSITIVE_INFINITY,
    );
    return { bandwidth: total * share, suspendBandwidth };
  }
}
