/** Streams of `xl migrate` made by hand, byte by byte from Xen's documents; shares nothing with lib. */

export function u16(value: number): Buffer {
  return Buffer.from([value & 0xff, value >> 8]);
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function be32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}

export const join = (...parts: readonly Buffer[]) => Buffer.concat(parts);

/** A record of either layer, padded. */
export function record(type: number, body: Buffer = Buffer.alloc(0), length = body.length): Buffer {
  return join(u32(type), u32(length), body, Buffer.alloc((8 - (body.length % 8)) % 8));
}

export const PAGE = 4096;

/** The configuration as `xl` sends it: what Godwit looks at, and a little of what else there is. */
export function configOf(name: string, type: 'pv' | 'hvm' | 'pvh' = 'pv', memKb = 98304): string {
  const uuid = '2f7a1c5e-5a5a-4d11-9c3b-6b8c57d0a7f1';
  return JSON.stringify({
    c_info: { type, name, uuid, run_hotplug_scripts: 'True' },
    b_info: { max_vcpus: 1, max_memkb: memKb, target_memkb: memKb, [`type.${type}`]: {} },
    on_reboot: 'restart',
  });
}

export function xlHeader(config: string, over: Partial<Record<string, number>> = {}): Buffer {
  const text = Buffer.from(`${config}\0`);
  const optional = join(u32(over.config ?? text.length), text);
  const words = [over.order ?? 0x01020304, over.mandatory ?? 3, over.optional ?? 0];
  const lengths = [...words, over.length ?? optional.length];
  return join(Buffer.from('Xen saved domain, xl format\n \0 \r'), ...lengths.map(u32), optional);
}

export function libxlHeader(version = 2, options = 0): Buffer {
  return join(Buffer.from('LibxlFmt'), be32(version), be32(options));
}

export function libxcHeaders(
  type: number,
  { version = 3, options = 0, shift = 12, marker = 0xff } = {},
): Buffer {
  const image = join(Buffer.alloc(8, marker), Buffer.from('XENF'), be32(version));
  const rest = join(Buffer.from([options >> 8, options & 0xff]), Buffer.alloc(6));
  return join(image, rest, u32(type), u16(shift), u16(0), u32(4), u32(17));
}

/** A page of a PAGE_DATA; filled with one byte unless its type has none. */
export type Page = readonly [pfn: number, type: number, fill?: number];

export function pfnWord(pfn: number, type: number): Buffer {
  return u64((BigInt(type) << 60n) | BigInt(pfn));
}

export function pageDataOf(pages: readonly Page[]): Buffer {
  const words = pages.map(([pfn, type]) => pfnWord(pfn, type));
  const bytes = pages.flatMap(([, type, fill]) => (type < 0xd ? [Buffer.alloc(PAGE, fill)] : []));
  return record(1, join(u32(pages.length), u32(0), ...words, ...bytes));
}

/** Device state of an emulator: its id (2: upstream QEMU), its index, and bytes of its own. */
export function emulator(type: 2 | 3, body: Buffer): Buffer {
  return record(type, join(u32(2), u32(0), body));
}

const LIBXC_CONTEXT = record(1);
export const END = record(0);
const STATIC_DATA_END = record(0x10);
/** 27 leaves of CPUID, 2 MSRs: what Xen 4.17 sent for a PV guest on a Nehalem. */
const CPUID = record(0x11, Buffer.alloc(27 * 24, 0x11));
const MSRS = record(0x12, Buffer.alloc(2 * 16, 0x12));
const TSC = record(8, join(u32(0), u32(2_400_000), u64(123_456_789n), u32(1), u32(0)));

/** Up to the first page of a guest. */
export function prologueOf(kind: 'pv' | 'hvm' | 'pvh', name = 'g1'): Buffer {
  const head = join(xlHeader(configOf(name, kind)), libxlHeader(), LIBXC_CONTEXT);
  if (kind !== 'pv') return join(head, libxcHeaders(2), CPUID, MSRS, STATIC_DATA_END);
  const info = record(2, join(Buffer.from([8, 4]), u16(0), u32(0)));
  const p2m = record(3, join(u32(0), u32(24575), ...[17, 18, 19].map((pfn) => u64(BigInt(pfn)))));
  return join(head, libxcHeaders(1), info, CPUID, MSRS, STATIC_DATA_END, p2m);
}

/** What follows the last page. HVM and PVH guests have other records than PV ones; HVM has an emulator. */
export function tailOf(kind: 'pv' | 'hvm' | 'pvh'): Buffer {
  if (kind === 'pv') {
    const vcpu = (type: number, bytes: number) =>
      record(type, join(u32(0), u32(0), Buffer.alloc(bytes - 8, type)));
    const vcpus = join(vcpu(4, 5176), vcpu(5, 72), vcpu(6, 843), vcpu(12, 24));
    return join(TSC, record(7, Buffer.alloc(PAGE, 7)), vcpus, END, END);
  }
  const params = record(10, join(u32(2), u32(0), u64(1n), u64(0xfefffn), u64(5n), u64(0n)));
  const context = record(9, Buffer.alloc(7001, 9));
  const libxc = join(TSC, params, context, END);
  if (kind === 'pvh') return join(libxc, END);
  const keys = emulator(2, Buffer.from('physmap/f0000000/start_addr\0f0000000\0'));
  return join(libxc, keys, emulator(3, Buffer.alloc(9001, 0xe5)), END);
}

/** A row of pages: normal ones with their pfn's low byte in them. */
export function pagesFrom(first: number, count: number): Page[] {
  return Array.from({ length: count }, (_, i) => [first + i, 0, (first + i) & 0xff]);
}

/** Rounds of a guest of 16 pages with every type that there is, in small records. */
export function roundsOf(kind: 'pv' | 'hvm' | 'pvh'): readonly (readonly Page[])[] {
  const tables = kind === 'pv' ? [1, 2, 3, 4, 9, 0xa, 0xb, 0xc] : Array(8).fill(0);
  const types = [0, ...tables, 0, 0xd, 0xe, 0xf, 0, 0, 0];
  return [
    types.map((type, pfn): Page => [pfn, type, pfn + 1]),
    [
      [3, types[3]!, 0x33],
      [12, 0, 0x22],
    ],
    [
      [4, 0xf],
      [5, 0, 0x55],
      [15, 0, 0xf1],
    ],
  ];
}

/** A whole stream in which each kind of record comes up, an unknown optional one included. */
export function wholeStream(kind: 'pv' | 'hvm' | 'pvh', name = 'g1'): Buffer {
  const [first, second, last] = roundsOf(kind).map(pageDataOf);
  const optional = record(0x8000_0123, Buffer.from('whatever'), 5);
  return join(prologueOf(kind, name), first!, optional, second!, last!, tailOf(kind));
}

export const KINDS = ['pv', 'hvm', 'pvh'] as const;
