import type { SourceGuest } from '../../lib/guest/guest.ts';
import { SpoolEnd, StateSpool } from '../../lib/memory/state-spool.ts';

const DIR = '/dev/shm';

/** A spool that holds all of a device state. */
export function spoolOf(state: Uint8Array): StateSpool {
  const spool = StateSpool.open(DIR, 1);
  const end = new SpoolEnd(spool.share);
  end.write(0, state);
  end.progress.wrote(0, state.length);
  end.progress.endAt(state.length);
  end.close();
  return spool;
}

/** Where a guest is to save; told before it is suspended. */
export async function spoolFor(guest: SourceGuest): Promise<StateSpool> {
  const spool = StateSpool.open(DIR, 1);
  await guest.saveInto(spool);
  return spool;
}

/** The device state of a suspended guest, in its spool. */
export async function saved(guest: SourceGuest): Promise<StateSpool> {
  const spool = await spoolFor(guest);
  await guest.saveDeviceState();
  return spool;
}

/** All of it, which is here. */
export function bytesOf({ share, progress }: StateSpool): Buffer {
  const end = new SpoolEnd(share);
  const bytes = Buffer.alloc(progress.total!);
  end.read(0, bytes);
  end.close();
  return bytes;
}
