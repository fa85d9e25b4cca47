import fc from 'fast-check';
import { expect, test } from 'vitest';
import { GuestLayout } from '../../lib/memory/guest-layout.ts';
import { PageSet } from '../../lib/memory/page-set.ts';
import { encodeBody } from '../../lib/wire/codec.ts';
import { addDirtyList, dirtyLists } from '../../lib/wire/dirty-list.ts';
import { kindOf } from '../../lib/wire/kinds.ts';

const layout = new GuestLayout([
  { name: 'low', firstPfn: 0, pages: 300 },
  { name: 'high', firstPfn: 512, pages: 512 },
  { name: 'next', firstPfn: 1024, pages: 100 },
]);

test('any dirty set arrives as it was', () => {
  const pages = fc.uniqueArray(fc.nat(layout.pfnEnd - 1), { maxLength: 300 });
  fc.assert(
    fc.property(pages, (pfns) => {
      const set = new PageSet(layout.pfnEnd);
      for (const pfn of pfns) if (layout.has(pfn)) set.add(pfn);
      const back = new PageSet(layout.pfnEnd);
      for (const list of dirtyLists(3, set)) addDirtyList(list, layout, back);
      expect(Buffer.from(back.bytes).equals(Buffer.from(set.bytes))).toBe(true);
    }),
  );
});

test('the worst set is cut into messages within their limit', () => {
  const big = new GuestLayout([{ name: 'ram', firstPfn: 0, pages: 400_000 }]);
  const set = new PageSet(big.pfnEnd);
  for (let pfn = 0; pfn < 400_000; pfn += 2) set.add(pfn);
  const back = new PageSet(big.pfnEnd);
  const lists = [...dirtyLists(1, set)];
  expect(lists.length).toBeGreaterThan(1);
  for (const list of lists) {
    expect(encodeBody('DirtyList', list).length).toBeLessThanOrEqual(kindOf('DirtyList').body);
    addDirtyList(list, big, back);
  }
  expect(back.count()).toBe(200_000);
});

test.each([
  ['a gap at the end', 0, [1], 'bad-message'],
  ['an empty run', 0, [0, 0], 'pfn-out-of-range'],
  ['a run into a gap of the guest', 0, [290, 20], 'pfn-out-of-range'],
  ['a run over a gap of the guest', 0, [0, 600], 'pfn-out-of-range'],
  ['a run past the end', 1100, [0, 100], 'pfn-out-of-range'],
  ['a start past the end', 4_000_000_000, [0, 1], 'pfn-out-of-range'],
  ['numbers that overflow', 4_294_967_295, [4_294_967_295, 4_294_967_295], 'pfn-out-of-range'],
])('%s is refused', (_, firstPfn, gapRun, code) => {
  const set = new PageSet(layout.pfnEnd);
  expect(() => addDirtyList({ round: 1, firstPfn, gapRun }, layout, set)).toThrow(
    expect.objectContaining({ code }),
  );
});

test('a run may span regions that touch', () => {
  const set = new PageSet(layout.pfnEnd);
  addDirtyList({ round: 1, firstPfn: 0, gapRun: [1000, 100] }, layout, set);
  expect(set.count()).toBe(100);
});
