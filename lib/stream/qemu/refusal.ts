import { GodwitError } from '../../errors.ts';

/**
 * Ends the reading of a migration stream at what Godwit does not take.
 * @param position byte of the stream at which it was found
 * @param what a noun phrase: `version 2 where Godwit reads 3`
 * @throws GodwitError qemu-stream, always
 */
export function refuse(position: number, what: string): never {
  throw new GodwitError('qemu-stream', `at byte ${position}, QEMU's migration stream has ${what}`);
}
