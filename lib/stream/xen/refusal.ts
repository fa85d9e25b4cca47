import { GodwitError } from '../../errors.ts';

/**
 * Ends the reading of a stream of Xen's at what Godwit does not take.
 * @param position byte of the stream at which it was found
 * @param what a noun phrase: `version 4 where Godwit reads 2 and 3`
 * @throws GodwitError xen-stream, always
 */
export function refuse(position: number, what: string): never {
  throw new GodwitError('xen-stream', `at byte ${position}, xl's migration stream has ${what}`);
}
