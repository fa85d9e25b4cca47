/**
 * The bytes that `xl migrate` writes, little-endian but for the headers of libxl and libxc:
 *
 *     stream  := xl libxl record*                    the last libxl record is END
 *     xl      := magic (32), u32 byte order, u32 mandatory, u32 optional, u32 length, config (length)
 *     config  := u32 length, JSON of libxl_domain_config (length), whatever xl adds later
 *     libxl   := "LibxlFmt", u32 version, u32 options
 *     record  := u32 type, u32 length, body (length), zeros up to a multiple of 8
 *     libxc   := FF (8), "XENF", u32 version, u16 options, zeros (6), domain, record*
 *     domain  := u32 type, u16 page shift, u16 0, u32 major, u32 minor of Xen
 *
 * The stream of libxc, up to its own END, stands unframed behind the libxl record LIBXC_CONTEXT.
 *
 *     PAGE_DATA := u32 count, u32 0, u64 (type << 60 | pfn) (count), page (those whose type has one)
 *
 * Sources: docs/specs/libxl-migration-stream.pandoc (version 2), docs/specs/libxc-migration-stream.pandoc
 * (version 3), tools/xl/xl.h (xl's header), tools/libs/guest/xg_sr_stream_format.h and xg_sr_common.h
 * (limits of a record).
 */

/** savefileheader_magic and SAVEFILE_BYTEORDER_VALUE. */
export const XL_MAGIC = Buffer.from('Xen saved domain, xl format\n \0 \r', 'latin1');
export const XL_BYTE_ORDER = 0x01020304;

/** XL_MANDATORY_FLAG_*: the configuration is JSON, the stream is version 2. Both are set since Xen 4.6. */
export const XL_MANDATORY = 0b11;

export const LIBXL_MAGIC = Buffer.from('LibxlFmt', 'latin1');
export const LIBXL_VERSION = 2;

/** Marker and id of libxc's image header. */
export const LIBXC_MAGIC = Buffer.from('\xff\xff\xff\xff\xff\xff\xff\xffXENF', 'latin1');
/** Version 3, since Xen 4.14, has STATIC_DATA_END; Xen restores version 2 as well. */
export const LIBXC_VERSIONS: readonly number[] = [2, 3];

/** Type in the domain header. A PVH guest is HVM here. */
export const DOMAIN_TYPE = { PV: 1, HVM: 2 } as const;

/** Records of libxl. */
export const LIBXL = {
  END: 0x0,
  LIBXC_CONTEXT: 0x1,
  EMULATOR_XENSTORE_DATA: 0x2,
  EMULATOR_CONTEXT: 0x3,
  CHECKPOINT_END: 0x4,
  CHECKPOINT_STATE: 0x5,
} as const;

/** Records of libxc. */
export const LIBXC = {
  END: 0x00,
  PAGE_DATA: 0x01,
  X86_PV_INFO: 0x02,
  X86_PV_P2M_FRAMES: 0x03,
  X86_PV_VCPU_BASIC: 0x04,
  X86_PV_VCPU_EXTENDED: 0x05,
  X86_PV_VCPU_XSAVE: 0x06,
  SHARED_INFO: 0x07,
  X86_TSC_INFO: 0x08,
  HVM_CONTEXT: 0x09,
  HVM_PARAMS: 0x0a,
  TOOLSTACK: 0x0b,
  X86_PV_VCPU_MSRS: 0x0c,
  VERIFY: 0x0d,
  CHECKPOINT: 0x0e,
  CHECKPOINT_DIRTY_PFN_LIST: 0x0f,
  STATIC_DATA_END: 0x10,
  X86_CPUID_POLICY: 0x11,
  X86_MSR_POLICY: 0x12,
} as const;

/** A record with this bit need not be understood; all others must be. */
const OPTIONAL = 0x8000_0000;

/** XEN_DOMCTL_PFINFO_*: what a page is. L1 to L4 are page tables, PINNED is added to them. */
export const PAGE_TYPE = {
  NORMAL: 0x0,
  L1: 0x1,
  L4: 0x4,
  PINNED: 0x8,
  BROKEN: 0xd,
  ALLOCATE_ONLY: 0xe,
  INVALID: 0xf,
} as const;

/** MAX_BATCH_SIZE: pages in one PAGE_DATA. */
export const MOST_PAGES = 1024;

/** REC_LENGTH_MAX: what libxc takes in one record. */
export const LONGEST_LIBXC_RECORD = 8 * 1024 * 1024;

/** What may stand in a pfn word. */
export function isPageType(type: number): boolean {
  const { L1, L4, PINNED, BROKEN } = PAGE_TYPE;
  const table = type & ~PINNED;
  return type === PAGE_TYPE.NORMAL || (table >= L1 && table <= L4) || type >= BROKEN;
}

/** Whether a page of that type has bytes in the stream. Tables hold pfns there, not frame numbers. */
export function hasBytes(type: number): boolean {
  return type < PAGE_TYPE.BROKEN;
}

/** Whoever does not know such a record may leave it alone. */
export function isOptional(type: number): boolean {
  return (type & OPTIONAL) !== 0;
}

/** A record's length with the zeros that follow it. */
export function padded(length: number): number {
  return Math.ceil(length / 8) * 8;
}
