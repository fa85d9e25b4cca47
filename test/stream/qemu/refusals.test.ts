import { describe, expect, it } from 'vitest';
import {
  BLOCKS,
  type Block,
  blockList,
  command,
  configuration,
  EOS,
  footer,
  header,
  join,
  name,
  OPEN_RETURN_PATH,
  PAGE,
  PING,
  PROLOGUE,
  page,
  ramEnd,
  ramPart,
  ramStart,
  SWITCHOVER_START,
  sectionHead,
  subsection,
  u8,
  u16,
  u32,
  u64,
  zero,
} from './builder.ts';
import { collecting, feedIn } from './events.ts';

const OPENING = join(header(), configuration());
const RAM = sectionHead(1, 2, 'ram');
const capabilities = (...names: string[]) =>
  subsection('configuration/capabilities', 1, join(u32(names.length), ...names.map(name)));

/** What is wrong, the words that say so, and a stream whose last part is at fault. */
const REFUSED: [what: string, words: string, good: Buffer, bad: Buffer][] = [
  ['another protocol', 'magic', Buffer.alloc(0), Buffer.from('HTTP')],
  ['the obsolete version', 'version 2', header().subarray(0, 4), u32(2)],
  ['no configuration', 'send-configuration', header(), ramStart(BLOCKS)],
  [
    'an endless machine name',
    'machine name of 4294967295',
    header(),
    join(u8(7), u32(2 ** 32 - 1)),
  ],
  ['no machine name', 'empty or not printable', join(header(), u8(7), u32(0)), Buffer.alloc(0)],
  ['x-ignore-shared', 'x-ignore-shared', OPENING, capabilities('x-ignore-shared')],
  ['mapped-ram', 'mapped-ram', OPENING, capabilities('mapped-ram', 'other')],
  ['pages of 64 KiB', '2^16', OPENING, subsection('configuration/target-page-bits', 1, u32(16))],
  [
    'an unknown subsection',
    'configuration/new',
    OPENING,
    subsection('configuration/new', 1, u32(1)),
  ],
  [
    'a newer subsection',
    'version 2',
    OPENING,
    subsection('configuration/uuid', 2, Buffer.alloc(16)),
  ],
  ['an unknown element', 'unknown (68)', OPENING, u8(0x44)],
  ['an end before the RAM', 'EOF (0)', OPENING, u8(0)],
  ['a part before the RAM', 'PART (2)', OPENING, ramPart([])],
  ['postcopy', 'POSTCOPY_ADVISE (3)', OPENING, command(3, Buffer.alloc(16))],
  ['an unknown command', 'unknown (99)', OPENING, command(99)],
  ['a PING of 8 bytes', 'PING (2) with 8 bytes', OPENING, command(2, u64(1))],
  ['a switchover before START', 'SWITCHOVER_START', OPENING, SWITCHOVER_START],
  ['a dirty bitmap first', 'section dirty-bitmap', OPENING, sectionHead(1, 3, 'dirty-bitmap', 1)],
  ['another RAM version', 'version 3', OPENING, sectionHead(1, 2, 'ram', 3)],
  ['a section name of noise', 'printable', join(OPENING, u8(1), u32(2), u8(2)), u16(0x0102)],
  ['no block list', 'EOS (16), which has no place here', join(OPENING, RAM), EOS],
  [
    'a list above its total',
    '8192 bytes where 4096',
    join(OPENING, RAM, u64(PAGE + 4)),
    row('a', 2),
  ],
  ['a block of broken pages', 'no whole pages', join(OPENING, RAM, u64(8192 + 4)), row('a', 0.5)],
  [
    'a block listed twice',
    'a for the second time',
    join(OPENING, RAM, u64(16388), row('a', 1)),
    row('a', 1),
  ],
  ['multifd', 'multifd must be off', join(OPENING, RAM, blockList(BLOCKS)), u64(0x200)],
  [
    'pages in START',
    'PAGE (8), which has no place here',
    join(OPENING, RAM, blockList(BLOCKS)),
    page(0, 1, 'pc.ram'),
  ],
  ['another footer', 'no footer of section 2', join(OPENING, RAM, blockList([]), EOS), footer(3)],
  ['no footer', 'no footer of section 2', join(OPENING, RAM, blockList([]), EOS), ramPart([])],
  ['vfio', 'section 0000:00:03.0/vfio', PROLOGUE, sectionHead(1, 9, '0000:00:03.0/vfio', 1)],
  [
    'virtio-mem',
    'section 0000:00:01.0/virtio-mem',
    PROLOGUE,
    sectionHead(4, 9, '0000:00:01.0/virtio-mem'),
  ],
  ['an end without END', 'EOF (0)', PROLOGUE, u8(0)],
  ['a command of the prologue later', 'PING (2)', PROLOGUE, PING],
  ['the return path later', 'OPEN_RETURN_PATH (1)', PROLOGUE, OPEN_RETURN_PATH],
  ['postcopy later', 'PACKAGED (7)', PROLOGUE, command(7, u32(10))],
  ['a second switchover', 'second time', join(PROLOGUE, SWITCHOVER_START), SWITCHOVER_START],
  ['a part of another section', 'section 3, which was never begun', PROLOGUE, ramPart([], 3)],
  ['an end of another section', 'section 3, which was never begun', PROLOGUE, ramEnd([], 3)],
  ['CONTINUE first', 'without a block', part(), page(0, 1)],
  ['a page of no block', 'RAM block vga.vram', part(), page(0, 1, 'vga.vram')],
  [
    'a page behind its block',
    'offset 8192 of RAM block pc.bios',
    part(),
    page(2 * PAGE, 1, 'pc.bios'),
  ],
  ['a zero page behind it', 'offset 32768 of RAM block pc.ram', part(), zero(8 * PAGE, 'pc.ram')],
  ['a page at 2^52', 'offset 4503599627370496', part(), page(2 ** 52, 1, 'pc.ram')],
  ['another fill byte', 'other than 0', part(), zero(0, 'pc.ram', 1)],
  ['an EOS with an offset', 'EOS record with an offset', part(), u64(PAGE + 0x10)],
  ['a block list later', 'MEM_SIZE (4)', part(), blockList(BLOCKS)],
  ['XBZRLE', 'xbzrle must be off', part(), u64(0x60)],
  ['COMPRESS_PAGE', 'compress must be off', part(), u64(0x100)],
  ['MULTIFD_FLUSH', 'multifd must be off', part(), u64(0x200)],
  ['HOOK', 'RDMA', part(), u64(0x80)],
  ['the obsolete FULL', 'FULL (1)', part(), u64(0x01)],
  ['two flags at once', 'unknown (10)', part(), u64(0x0a)],
  ['unknown flags', 'unknown (2048)', part(), u64(0x800)],
];

function part(): Buffer {
  return join(PROLOGUE, u8(2), u32(2));
}

function row(title: string, pages: number): Buffer {
  return join(name(title), u64(pages * PAGE));
}

describe('StreamParser refuses', () => {
  it.each(REFUSED)('%s', (_what, words, good, bad) => {
    const refusal = expect.objectContaining({
      name: 'GodwitError',
      code: 'qemu-stream',
      message: expect.stringContaining(words),
    });
    for (const pieces of [[], [1]]) {
      const { parser } = collecting();
      expect(() => feedIn(pieces, join(good, bad), parser)).toThrow(refusal);
    }
  });

  it.each(REFUSED)('%s, naming the byte', (_what, _words, good, bad) => {
    const { parser } = collecting();
    let message = '';
    try {
      parser.feed(join(good, bad));
    } catch (error) {
      message = (error as Error).message;
    }
    expect(message).toMatch(new RegExp(`^at byte ${good.length}, QEMU's migration stream has `));
  });

  it('an endless prologue, before it is large', () => {
    const { parser } = collecting();
    parser.feed(OPENING);
    expect(() => {
      for (let fed = 0; fed < 2 ** 20; fed += PING.length) parser.feed(PING);
    }).toThrow('no RAM section so far');
    expect(parser.position).toBeLessThan(66_000);
  });

  it('an endless block list, before it is large', () => {
    const blocks = Array.from({ length: 20_000 }, (_, i): Block => [`block${i}`, PAGE]);
    const { parser } = collecting();
    const stream = join(OPENING, ramStart(blocks));
    expect(() => feedIn([1000], stream, parser)).toThrow('endless list');
    expect(parser.position).toBeLessThan(66_000);
  });
});
