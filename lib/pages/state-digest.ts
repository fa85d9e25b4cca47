import type { PageHash } from './hash.ts';

const both = Buffer.alloc(16);

/**
 * The digest of a lane's parts with one more: xxh64 over the digest so far, 0 in the beginning, and the
 * hash of the part, both little endian (proto/WIRE.md, Device state).
 */
export function stateDigest(hash: PageHash, soFar: bigint, part: bigint): bigint {
  both.writeBigUInt64LE(soFar, 0);
  both.writeBigUInt64LE(part, 8);
  return hash.of(both);
}
