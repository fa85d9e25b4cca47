/** Migration streams made by hand, byte by byte from QEMU's documents; shares nothing with lib. */

export const u8 = (value: number) => Buffer.from([value]);

export function u16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 0xff]);
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

export const name = (text: string) => Buffer.concat([u8(text.length), Buffer.from(text)]);

export const join = (...parts: readonly Buffer[]) => Buffer.concat(parts);

export const footer = (section: number) => join(u8(0x7e), u32(section));

export const EOS = u64(0x10);

export const header = (version = 3) => join(Buffer.from('QEVM'), u32(version));

export function configuration(machine = 'pc-q35-7.2', ...subsections: Buffer[]): Buffer {
  return join(u8(7), u32(machine.length), Buffer.from(machine), ...subsections);
}

export function subsection(title: string, version: number, body: Buffer): Buffer {
  return join(u8(5), name(title), u32(version), body);
}

export function command(number: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  return join(u8(8), u16(number), u16(payload.length), payload);
}

export const OPEN_RETURN_PATH = command(1);
export const PING = command(2, u32(1));
export const SWITCHOVER_START = command(11);

/** The head of START and FULL. */
export function sectionHead(type: number, section: number, idstr: string, version = 4): Buffer {
  return join(u8(type), u32(section), name(idstr), u32(0), u32(version));
}

export type Block = readonly [name: string, length: number];

export function blockList(blocks: readonly Block[], total?: number): Buffer {
  const sum = blocks.reduce((all, [, length]) => all + length, 0);
  const rows = blocks.map(([title, length]) => join(name(title), u64(length)));
  return join(u64((total ?? sum) + 4), ...rows);
}

/** START of the RAM. */
export function ramStart(blocks: readonly Block[], section = 2): Buffer {
  return join(sectionHead(1, section, 'ram'), blockList(blocks), EOS, footer(section));
}

/** A PART, or with type 3 an END. */
export function ramPart(records: readonly Buffer[], section = 2, type = 2): Buffer {
  return join(u8(type), u32(section), ...records, EOS, footer(section));
}

export const ramEnd = (records: readonly Buffer[] = [], section = 2) =>
  ramPart(records, section, 3);

export const PAGE = 4096;

/** A page filled with one byte; without a block it continues the one before. */
export function page(offset: number, fill: number, block?: string): Buffer {
  const head = block === undefined ? u64(offset + 0x28) : join(u64(offset + 8), name(block));
  return join(head, Buffer.alloc(PAGE, fill));
}

export function zero(offset: number, block?: string, fill = 0): Buffer {
  const head = block === undefined ? u64(offset + 0x22) : join(u64(offset + 2), name(block));
  return join(head, u8(fill));
}

/** One device section, EOF and a description; as opaque as the real ones. */
export function tail(json = '{"page_size": 4096, "devices": []}'): Buffer {
  const device = join(sectionHead(4, 7, 'timer', 2), Buffer.from('state'), footer(7));
  return join(device, u8(0), u8(6), u32(json.length), Buffer.from(json));
}

export const BLOCKS: readonly Block[] = [
  ['pc.ram', 8 * PAGE],
  ['pc.bios', 2 * PAGE],
];

/** A prologue with the return path, as Godwit asks for. */
export const PROLOGUE = join(header(), configuration(), OPEN_RETURN_PATH, PING, ramStart(BLOCKS));

/** A whole stream in which each kind of token comes up. */
export function wholeStream(): Buffer {
  return join(
    PROLOGUE,
    ramPart([page(0, 1, 'pc.ram'), zero(PAGE), page(2 * PAGE, 2)]),
    ramPart([]),
    ramPart([page(3 * PAGE, 3), zero(0, 'pc.bios'), page(PAGE, 4)]),
    SWITCHOVER_START,
    ramEnd([page(PAGE, 5), page(7 * PAGE, 6, 'pc.ram')]),
    tail(),
  );
}
