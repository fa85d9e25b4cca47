/*
 * An image of QEMU's format qcow2 as it is before anything is written to it: QEMU's docs/interop/qcow2.txt.
 * Its numbers are big endian.
 */

const MAGIC = 0x514649fb;
const VERSION = 3;
const HEADER_BYTES = 104;
const CLUSTER_BITS = 16;
const CLUSTER = 1 << CLUSTER_BITS;
/** Guest bytes below an entry of the first table: a second table of 8 byte entries, one for each cluster. */
const BYTES_OF_ENTRY = (CLUSTER / 8) * CLUSTER;
/** Counts of 16 bits. */
const REFCOUNT_ORDER = 4;
/** What QEMU takes. */
const MAX_TABLE_BYTES = 32 << 20;

/** Of an image: all of it but the first cluster, the counts and the end is empty. */
export interface EmptyImage {
  /** Each at its place in the file. */
  readonly parts: readonly { readonly at: number; readonly bytes: Buffer }[];
  readonly length: number;
}

/** @param capacity bytes that the guest sees. @throws RangeError for what no such image can have */
export function emptyQcow2(capacity: number): EmptyImage {
  const entries = Math.ceil(capacity / BYTES_OF_ENTRY);
  const tableClusters = Math.max(1, Math.ceil((entries * 8) / CLUSTER));
  if (entries * 8 > MAX_TABLE_BYTES) throw new RangeError(`no image has ${capacity} bytes`);
  const clusters = 3 + tableClusters; // header, table of counts, counts, first table
  const countsTable = Buffer.alloc(8);
  countsTable.writeBigUInt64BE(BigInt(2 * CLUSTER));
  const counts = Buffer.alloc(2 * clusters);
  for (let cluster = 0; cluster < clusters; cluster++) counts.writeUInt16BE(1, 2 * cluster);
  return {
    parts: [
      { at: 0, bytes: header(capacity, entries) },
      { at: CLUSTER, bytes: countsTable },
      { at: 2 * CLUSTER, bytes: counts },
    ],
    length: clusters * CLUSTER,
  };
}

/** Bytes that the guest sees of the image that begins so; undefined when it is none. */
export function qcow2Capacity(head: Buffer): number | undefined {
  const isImage = head.length >= 32 && head.readUInt32BE(0) === MAGIC;
  return isImage ? Number(head.readBigUInt64BE(24)) : undefined;
}

/** No extension and no backing file follow it. */
function header(capacity: number, entries: number): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  bytes.writeUInt32BE(MAGIC, 0);
  bytes.writeUInt32BE(VERSION, 4);
  bytes.writeUInt32BE(CLUSTER_BITS, 20);
  bytes.writeBigUInt64BE(BigInt(capacity), 24);
  bytes.writeUInt32BE(entries, 36);
  bytes.writeBigUInt64BE(BigInt(3 * CLUSTER), 40); // first table
  bytes.writeBigUInt64BE(BigInt(CLUSTER), 48); // table of counts
  bytes.writeUInt32BE(1, 56); // its clusters
  bytes.writeUInt32BE(REFCOUNT_ORDER, 96);
  bytes.writeUInt32BE(HEADER_BYTES, 100);
  return bytes;
}
