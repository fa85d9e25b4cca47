import { GodwitError } from '../../errors.ts';
import { GUEST_NAME_RULE, isGuestName } from '../../guest-name.ts';
import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import type { GuestDescription } from '../guest.ts';

export const HYPERVISOR = 'simulated';
export const MAX_VCPUS = 16;

/** What fixes the shape of a machine: a device state fits where these are equal. */
export interface Shape {
  readonly name: string;
  readonly memory: number;
  readonly vcpus: number;
}

/** As an operator may name a guest: it becomes part of file names. */
export function requireGuestName(name: string, option: string): string {
  if (isGuestName(name)) return name;
  throw new GodwitError('bad-option', `${option} cannot be "${name}": ${GUEST_NAME_RULE}`);
}

export function describe({ name, memory, vcpus }: Shape): GuestDescription {
  const regions = [{ name: 'ram', firstPfn: 0, pages: memory / PAGE_SIZE }];
  return { name, hypervisor: HYPERVISOR, deviceModel: `godwit-sim-2,vcpus=${vcpus}`, regions };
}

/**
 * The machine that a description, perhaps a peer's, asks for.
 * @throws GodwitError bad-message when this kind of machine cannot be built from it
 */
export function shapeOf(description: GuestDescription): Shape {
  const { name, hypervisor, deviceModel, regions } = description;
  const refuse = (why: string) => new GodwitError('bad-message', `guest description: ${why}`);
  const vcpus = Number(/^godwit-sim-2,vcpus=(\d{1,2})$/.exec(deviceModel)?.[1]);
  if (hypervisor !== HYPERVISOR || !(vcpus >= 1 && vcpus <= MAX_VCPUS))
    throw refuse(`device model ${deviceModel} of ${hypervisor} is not a simulated guest's`);
  const region = regions[0];
  if (regions.length !== 1 || region?.name !== 'ram' || region.firstPfn !== 0)
    throw refuse('a simulated guest has one region "ram" at pfn 0');
  requireGuestName(name, 'the guest of the description');
  return { name, memory: region.pages * PAGE_SIZE, vcpus };
}
