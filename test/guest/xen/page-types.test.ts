import { describe, expect, it } from 'vitest';
import { PageTypes } from '../../../lib/guest/xen/page-types.ts';

/** What was given: the page of types, and what it says of pfns that are told. */
function collecting() {
  const given: [page: number, told: [offset: number, value: number][]][] = [];
  const give = (page: number, bytes: Buffer) =>
    given.push([page, [...bytes.entries()].filter(([, value]) => value !== 0)]);
  return { given, give };
}

describe('PageTypes', () => {
  it('gives a page of types when pages rise beyond it, and the rest at the end of the round', () => {
    const types = new PageTypes(3 * 4096);
    const { given, give } = collecting();
    types.tell(0, 0, give);
    types.tell(4095, 0xf, give);
    expect(given).toEqual([]);
    types.tell(4096, 9, give);
    expect(given).toEqual([
      [
        0,
        [
          [0, 1],
          [4095, 0x10],
        ],
      ],
    ]);
    types.flush(give);
    expect(given.slice(1)).toEqual([
      [1, [[0, 10]]],
      [2, []], // nothing is told of these: they go once all the same
    ]);
  });

  it('gives again only what has changed', () => {
    const types = new PageTypes(4096);
    types.tell(7, 1, () => {});
    types.flush(() => {});
    const { given, give } = collecting();
    types.tell(7, 1, give);
    types.flush(give);
    expect(given).toEqual([]);
    types.tell(7, 0, give);
    types.flush(give);
    expect(given).toEqual([[0, [[7, 1]]]]);
    expect([types.isTold(7), types.isTold(8)]).toEqual([true, false]);
  });
});
