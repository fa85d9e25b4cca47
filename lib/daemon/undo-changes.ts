import { setTimeout } from 'node:timers/promises';
import { asGodwitError } from '../errors.ts';
import type { Guests } from '../guest/guests.ts';
import { log } from '../log.ts';
import type { GuestRecords } from '../ownership/guest-record.ts';

/** Between tries to set hypervisors as they were, ms: doubled up to the last. */
const PAUSE_MS = { first: 500, most: 30_000 };

/** What an agent that died had set in hypervisors is undone, once no migration has their guests any more. */
export async function undoChanges(
  guests: Guests,
  records: GuestRecords,
  isOver: () => boolean,
): Promise<void> {
  for (let pauseMs = PAUSE_MS.first; !isOver(); pauseMs *= 2) {
    for (const guest of guests.changed()) await undo(guest, guests, records);
    if (guests.changed().length === 0) return;
    await setTimeout(Math.min(pauseMs, PAUSE_MS.most), undefined, { ref: false });
  }
}

/** A migration that has the guest now undoes it by itself; a hypervisor may not answer just now. */
async function undo(guest: string, guests: Guests, records: GuestRecords): Promise<void> {
  try {
    const giveBack = await records.lend(guest, 'set as it was before a migration');
    await guests.undo(guest).finally(giveBack);
    log('info', 'its hypervisor is set as it was before the migration of an earlier run', guest);
  } catch (thrown) {
    const { code, message } = asGodwitError(thrown);
    if (code !== 'guest-busy')
      log('warn', `its hypervisor is not set as it was: ${message}`, guest);
  }
}
