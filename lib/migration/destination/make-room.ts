import { asGodwitError, GodwitError } from '../../errors.ts';
import type { DestinationGuest, GuestDescription } from '../../guest/guest.ts';
import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import type { Basis } from './basis.ts';

/** True until the guest runs here or the migration has ended. */
export function isOpen({ handover }: Pick<Basis, 'handover'>): boolean {
  const { name } = handover.state;
  return name === 'receiving' || name === 'prepared';
}

/**
 * Starts the copy that gets the guest, paused, after the journal knows of it; undefined when the
 * migration has ended before there was anything to undo. `known` hears how it is found again.
 */
export async function makeRoom(
  basis: Basis,
  known: (handle: string) => void,
): Promise<DestinationGuest | undefined> {
  const { offer, context, layout, secret, handover, releases } = basis;
  const { migration, guest: name, hypervisor, deviceModel, regions } = offer;
  const { journal } = context;
  await journal.append({ ...handover.entry, secret });
  if (!isOpen(basis)) return undefined;
  const description: GuestDescription = { name, hypervisor, deviceModel, regions };
  const bytes = layout.totalPages * PAGE_SIZE;
  const starting = context.startGuest(description, bytes, async (handle) => {
    known(handle);
    await journal.note(migration, { handle });
  });
  handover.use(starting);
  const guest = await starting;
  releases.add(() => guest.close());
  guest.onDeath((thrown) => {
    // A guest that dies after it was handed over is no longer the migration's business.
    if (isOpen(basis)) handover.tell({ type: 'abort', error: asGodwitError(thrown) });
  });
  if (offer.verify && guest.placement !== 'direct' && isOpen(basis)) throw cannotVerify(name);
  return guest;
}

function cannotVerify(guest: string): GodwitError {
  const text = `--verify reads memory again, and that of guest ${guest} cannot be read here: it goes through its hypervisor's stream (its definition has no "ram", or its domain does not share it)`;
  return new GodwitError('definition-invalid', text);
}
