import { PAGE_SIZE, PFN_LIMIT } from '../../memory/guest-layout.ts';
import type { ByteWindow, Parsing } from '../byte-window.ts';
import { hasBytes, isPageType, MOST_PAGES } from './format.ts';
import { refuse } from './refusal.ts';

/** What a PAGE_DATA says of one page. */
export interface PageSink {
  /** A PAGE_DATA begins: its pages follow. */
  pageData(record: PageData): void;
  /** @param bytes 4096 of them from `at` on, valid during the call; undefined for a type that has none */
  page(pfn: number, type: number, bytes: Buffer | undefined, at: number): void;
  /** The last page of that PAGE_DATA was read. */
  pageDataEnds(record: PageData): void;
}

/** What tells one round from the next (`RoundMarks`). */
export interface PageData {
  readonly pages: number;
  readonly firstPfn: number;
  readonly lastPfn: number;
}

/** Count and the reserved word before the pfns. */
const HEAD_BYTES = 8;
/** Bits of a pfn word's upper half: type, reserved, pfn. */
const TYPE_SHIFT = 28;
const RESERVED_MASK = 0x0ff0_0000;
const PFN_HIGH_MASK = 0x000f_ffff;

/** Reads the body of a PAGE_DATA, `length` bytes long. */
export function* readPageData(window: ByteWindow, length: number, sink: PageSink): Parsing {
  const at = window.position;
  yield* window.need(HEAD_BYTES);
  const count = window.take(HEAD_BYTES).readUInt32LE(0);
  if (count === 0 || count > MOST_PAGES)
    refuse(at, `PAGE_DATA of ${count} pages, 1 to ${MOST_PAGES} are read`);
  const { pfns, types, pagesWithBytes } = yield* readPfns(window, count);
  const expected = HEAD_BYTES + 8 * count + PAGE_SIZE * pagesWithBytes;
  if (length !== expected)
    refuse(at, `PAGE_DATA of ${length} bytes where its pages make ${expected}`);
  const record = { pages: count, firstPfn: pfns[0]!, lastPfn: pfns[count - 1]! };
  sink.pageData(record);
  for (let i = 0; i < count; i++) {
    const isHere = hasBytes(types[i]!);
    if (isHere && !window.has(PAGE_SIZE)) yield* window.need(PAGE_SIZE);
    const from = isHere ? window.skip(PAGE_SIZE) : 0;
    sink.page(pfns[i]!, types[i]!, isHere ? window.bytes : undefined, from);
  }
  sink.pageDataEnds(record);
}

interface Pfns {
  readonly pfns: readonly number[];
  readonly types: readonly number[];
  readonly pagesWithBytes: number;
}

function* readPfns(window: ByteWindow, count: number): Parsing<Pfns> {
  const pfns: number[] = [];
  const types: number[] = [];
  let pagesWithBytes = 0;
  for (let i = 0; i < count; i++) {
    if (!window.has(8)) yield* window.need(8);
    const at = window.position;
    const word = window.take(8);
    const high = word.readUInt32LE(4);
    const pfn = (high & PFN_HIGH_MASK) * 2 ** 32 + word.readUInt32LE(0);
    const type = high >>> TYPE_SHIFT;
    if (!isPageType(type)) refuse(at, `a page of type ${type}, which there is not`);
    if ((high & RESERVED_MASK) !== 0) refuse(at, 'a pfn with reserved bits');
    if (pfn >= PFN_LIMIT) refuse(at, `page ${pfn}, beyond 16 TiB`);
    pfns.push(pfn);
    types.push(type);
    if (hasBytes(type)) pagesWithBytes++;
  }
  return { pfns, types, pagesWithBytes };
}
