import assert from 'node:assert/strict';
import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import { hasBytes, isPageType, LIBXC, MOST_PAGES } from './format.ts';

/** A page for `xl migrate-receive`; one whose type has no bytes has none. */
export interface XenPage {
  readonly pfn: number;
  readonly type: number;
  readonly bytes?: Buffer;
}

/** Type and length of the record, count and the reserved word. */
const HEAD_BYTES = 16;

/**
 * A PAGE_DATA with these pages, 1 to 1024 of them. Everything else of a stream is passed on as it was
 * read. Pages may be grouped otherwise than they came, but none may come before an older copy of
 * itself, and all have to come before the record that followed them.
 * @returns pieces to write one after the other (`writev`): page bytes are not copied, and belong to the
 *   caller until they are written
 */
export function pageData(pages: readonly XenPage[]): Buffer[] {
  assert(pages.length > 0 && pages.length <= MOST_PAGES);
  const contents = pages.flatMap(({ bytes }) => (bytes === undefined ? [] : [bytes]));
  const head = Buffer.alloc(HEAD_BYTES + 8 * pages.length);
  head.writeUInt32LE(LIBXC.PAGE_DATA, 0);
  head.writeUInt32LE(head.length - 8 + contents.length * PAGE_SIZE, 4);
  head.writeUInt32LE(pages.length, 8);
  for (const [i, page] of pages.entries()) writePfn(head, HEAD_BYTES + 8 * i, page);
  return [head, ...contents];
}

function writePfn(head: Buffer, at: number, { pfn, type, bytes }: XenPage): void {
  assert(isPageType(type));
  assert(hasBytes(type) === (bytes !== undefined));
  assert(bytes === undefined || bytes.length === PAGE_SIZE);
  assert(pfn >= 0 && pfn < 2 ** 52);
  head.writeUInt32LE(pfn % 2 ** 32, at);
  head.writeUInt32LE(type * 2 ** 28 + Math.floor(pfn / 2 ** 32), at + 4);
}
