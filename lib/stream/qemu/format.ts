/**
 * The bytes of QEMU's migration stream, all integers big-endian:
 *
 *     stream   := header configuration element* EOF VMDESCRIPTION
 *     element  := u8 START|FULL, u32 section, name, u32 instance, u32 version, body, footer
 *               | u8 PART|END, u32 section, body, footer
 *               | u8 COMMAND, u16 command, u16 length, payload
 *     footer   := u8 FOOTER, u32 section
 *     name     := u8 length, that many bytes, no NUL
 *
 * The names are QEMU's without its prefixes. Sources: docs/devel/migration/main.rst,
 * migration/savevm.h (header and section types), migration/savevm.c (commands), migration/ram.c
 * (records), migration/migration.h (return path).
 */

/** "QEVM", the first word; the version follows it. QEMU itself refuses version 2 as obsolete. */
export const MAGIC = 0x5145564d;
export const VERSION = 3;

/** The first byte of each element: QEMU_VM_EOF and the like. */
export const ELEMENT = {
  EOF: 0x00,
  START: 0x01,
  PART: 0x02,
  END: 0x03,
  FULL: 0x04,
  SUBSECTION: 0x05,
  VMDESCRIPTION: 0x06,
  CONFIGURATION: 0x07,
  COMMAND: 0x08,
  FOOTER: 0x7e,
} as const;

/** enum qemu_vm_cmd: MIG_CMD_OPEN_RETURN_PATH and the like. */
export const COMMAND = {
  OPEN_RETURN_PATH: 1,
  PING: 2,
  POSTCOPY_ADVISE: 3,
  POSTCOPY_LISTEN: 4,
  POSTCOPY_RUN: 5,
  POSTCOPY_RAM_DISCARD: 6,
  PACKAGED: 7,
  ENABLE_COLO: 8,
  POSTCOPY_RESUME: 9,
  RECV_BITMAP: 10,
  /** QEMU 10.0, machine types from 10.0 on: the guest was stopped; before END of the RAM. */
  SWITCHOVER_START: 11,
} as const;

/** idstr and version_id of the section that carries the RAM. */
export const RAM_NAME = 'ram';
export const RAM_VERSION = 4;

/**
 * A RAM section's body is a row of records that ends with EOS. Each begins with a u64: flags
 * (RAM_SAVE_FLAG_*) in the low 12 bits, the byte offset inside the RAM block in the others.
 */
export const RECORD = {
  FULL: 0x001,
  ZERO: 0x002,
  MEM_SIZE: 0x004,
  PAGE: 0x008,
  EOS: 0x010,
  /** With PAGE and ZERO: no block name follows, it is the block of the page record before. */
  CONTINUE: 0x020,
  XBZRLE: 0x040,
  HOOK: 0x080,
  COMPRESS_PAGE: 0x100,
  MULTIFD_FLUSH: 0x200,
} as const;
export const RECORD_FLAGS = 0xfff;

/** enum mig_rp_message_type: what the destination says to the source, on the same socket. */
export const RETURN = {
  SHUT: 1,
  PONG: 2,
  REQ_PAGES_ID: 3,
  REQ_PAGES: 4,
  RECV_BITMAP: 5,
  RESUME_ACK: 6,
  SWITCHOVER_ACK: 7,
} as const;

/** The name that a table of this file has for a number, for sentences: `POSTCOPY_RUN (5)`. */
export function nameIn(table: Readonly<Record<string, number>>, value: number): string {
  const name = Object.keys(table).find((key) => table[key] === value);
  return name === undefined ? `unknown (${value})` : `${name} (${value})`;
}

/** A RAM block as the stream lists it; `length` in bytes, a multiple of the page size. */
export interface RamBlock {
  readonly name: string;
  readonly length: number;
}
