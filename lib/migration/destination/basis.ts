import type { DestinationGuest, GuestDescription } from '../../guest/guest.ts';
import type { GuestLayout } from '../../memory/guest-layout.ts';
import type { DestinationHandover } from '../../ownership/destination-handover.ts';
import type { Credentials } from '../../wire/credentials.ts';
import type { GuestOffer, Welcome } from '../../wire/messages.ts';
import type { LiveContext } from '../context.ts';
import type { Facts } from '../facts.ts';
import type { Releases } from '../releases.ts';

export interface DestinationContext extends LiveContext {
  /** Where the sender's connection comes from. */
  readonly peer: string;
  readonly listenHost: string;
  readonly dataPorts: { readonly first: number; readonly last: number } | undefined;
  readonly credentials: Credentials | undefined;
  /** SHA-256 of the certificate that the sender has shown; empty without TLS. */
  readonly senderFingerprint: string;
  /**
   * A destination guest with memory for the description, paused; `known` as for `Hypervisor.arrive`.
   * @throws GodwitError memory-insufficient, guest-exists, ram-file-failed, hypervisor-failed
   */
  readonly startGuest: (
    description: GuestDescription,
    bytes: number,
    known: (handle: string) => Promise<void>,
  ) => Promise<DestinationGuest>;
}

/** What a migration is made of from its beginning to its end. */
export interface Basis {
  readonly offer: GuestOffer;
  readonly welcome: Welcome;
  readonly context: DestinationContext;
  readonly layout: GuestLayout;
  /** What binds connections to this migration. */
  readonly secret: Uint8Array;
  readonly facts: Facts;
  readonly handover: DestinationHandover;
  readonly releases: Releases;
}
