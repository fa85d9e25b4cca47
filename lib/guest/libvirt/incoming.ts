import { randomBytes } from 'node:crypto';
import path from 'node:path';

/** Where QEMU makes and reaches sockets, whoever it runs as: libvirt has its own sockets here as well. */
export const INCOMING_DIR = '/var/lib/libvirt/qemu';

/** A path in it that nobody foresees. */
export function incomingSocket(): string {
  return path.join(INCOMING_DIR, `godwit-${randomBytes(6).toString('hex')}.in`);
}
