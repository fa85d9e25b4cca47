import fc from 'fast-check';
import { expect, test } from 'vitest';
import { GuestLayout } from '../../lib/memory/guest-layout.ts';
import { PageSet } from '../../lib/memory/page-set.ts';

const END = 1024;
const pfns = fc.uniqueArray(fc.nat(END - 1), { maxLength: 200 });

const setOf = (members: Iterable<number>) => {
  const set = new PageSet(END);
  for (const pfn of members) set.add(pfn);
  return set;
};
const listOf = (set: PageSet) =>
  [...set.runs()].flatMap(({ firstPfn, pages }) =>
    Array.from({ length: pages }, (_, i) => firstPfn + i),
  );

test('behaves as a set of numbers', () => {
  fc.assert(
    fc.property(pfns, pfns, fc.nat(END - 1), fc.nat(200), (a, b, first, length) => {
      const pages = Math.min(length, END - first);
      const set = setOf(a);
      const model = new Set(a);
      for (const pfn of b) {
        set.delete(pfn);
        model.delete(pfn);
      }
      set.addRun({ firstPfn: first, pages });
      for (let i = 0; i < pages; i++) model.add(first + i);
      expect(listOf(set)).toEqual([...model].sort((x, y) => x - y));
      expect(set.count()).toBe(model.size);
      for (let chunk = 0; chunk < END / 256; chunk++)
        expect(set.hasChunk(chunk)).toBe([...model].some((pfn) => Math.floor(pfn / 256) === chunk));
      set.clearChunk(1);
      expect(listOf(set).some((pfn) => pfn >= 256 && pfn < 512)).toBe(false);
    }),
  );
});

test('runs are as long as can be', () => {
  const set = new PageSet(END);
  set.addRun({ firstPfn: 3, pages: 700 });
  expect([...set.runs()]).toEqual([{ firstPfn: 3, pages: 700 }]);
  set.addRun({ firstPfn: 703, pages: END - 703 });
  expect([...set.runs()]).toEqual([{ firstPfn: 3, pages: END - 3 }]);
});

test('takes all pages of a guest, and none of its gaps', () => {
  const layout = new GuestLayout([
    { name: 'low', firstPfn: 0, pages: 10 },
    { name: 'high', firstPfn: 512, pages: 300 },
  ]);
  const set = new PageSet(layout.pfnEnd);
  set.addAll(layout);
  expect([...set.runs()]).toEqual([
    { firstPfn: 0, pages: 10 },
    { firstPfn: 512, pages: 300 },
  ]);
  expect(set.count()).toBe(layout.totalPages);
});

test('is shared through its buffer, which must have the size of the guest', () => {
  const set = new PageSet(END);
  new PageSet(END, set.buffer).add(77);
  expect(set.has(77)).toBe(true);
  expect(() => new PageSet(END * 2, set.buffer)).toThrow();
});
