import { GodwitError } from '../../errors.ts';
import type { GuestCopy } from '../guest.ts';
import { type CopyPlace, placeOf } from '../handle.ts';
import { isAlive } from '../process-identity.ts';
import { domainAt, XenSourceCopy } from './copy.ts';
import { removeFiles, XenDestinationCopy } from './destination.ts';
import { HYPERVISOR } from './device-model.ts';
import { endLeftOvers, receiverIn } from './receiver.ts';
import type { Xl } from './xl.ts';

/**
 * The copy of a handle. Xen's word proves it gone: it has no such domain, and no `xl` makes one.
 * @throws GodwitError not-seen, journal-invalid
 */
export async function attachXen(xl: Xl | undefined, handle: string): Promise<GuestCopy | 'gone'> {
  const place = placeOf(HYPERVISOR, handle);
  const { uuid, socket } = place;
  if (uuid === undefined)
    throw new GodwitError('journal-invalid', `the journal has no domain's handle: ${handle}`);
  if (xl === undefined)
    throw new GodwitError('not-seen', 'this host has no xl, which knows the domains of Xen');
  if (socket.endsWith('.xl-receive')) return attachArriving(xl, { ...place, uuid });
  const domain = await domainAt(xl, { ...place, uuid });
  if (domain === undefined) return 'gone';
  if (place.process === undefined)
    throw new GodwitError('journal-invalid', `the journal has no xl's handle: ${handle}`);
  return XenSourceCopy.found(xl, { ...place, uuid, process: place.process });
}

async function attachArriving(
  xl: Xl,
  place: CopyPlace & { readonly uuid: string },
): Promise<GuestCopy | 'gone'> {
  const process = place.process ?? receiverIn(place.socket);
  const lives = process !== undefined && isAlive(process);
  // In this order: an xl that ends between the looks has made its domain by then, or never does.
  const domain = await xl.domain(place.uuid);
  if (domain?.state === 'running') removeFiles(place); // it has arrived: nothing is given to it any more
  if (process !== undefined && (lives || domain !== undefined))
    return new XenDestinationCopy(xl, { ...place, process });
  if (domain !== undefined) {
    const text = `a domain of guest ${place.guest} is here that no xl of ours has made`;
    throw new GodwitError('not-seen', text);
  }
  await endLeftOvers(place.socket);
  removeFiles(place);
  return 'gone';
}
