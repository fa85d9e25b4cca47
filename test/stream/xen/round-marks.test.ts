import { describe, expect, it } from 'vitest';
import { RoundMarks } from '../../../lib/stream/xen/round-marks.ts';

type Told = readonly [pages: number, firstPfn: number, lastPfn: number];

/** Where rounds end, by the number of the record: before it, or with it. */
function ends(records: readonly Told[]): string[] {
  const marks = new RoundMarks();
  const said = records.flatMap(([pages, firstPfn, lastPfn], i) => {
    const record = { pages, firstPfn, lastPfn };
    const before = marks.begins(record) ? [`before ${i}`] : [];
    return marks.ends(record) ? [...before, `with ${i}`] : before;
  });
  marks.finish();
  return [...said, `${marks.ended} rounds`];
}

describe('RoundMarks', () => {
  it('tells the rounds that Xen 4.17 sent of an idle guest of 96 MiB', () => {
    const first = Array.from({ length: 24 }, (_, i): Told => [1024, 1024 * i, 1024 * i + 1023]);
    const later: Told[] = [
      [209, 3, 24001],
      [165, 3, 24001],
      [75, 3, 20000],
      [318, 3, 24010],
    ];
    // All of memory is 24 full records: it is the next round that shows its end.
    expect(ends([...first, ...later])).toEqual([
      'before 24',
      ...['with 24', 'with 25', 'with 26', 'with 27'],
      '5 rounds',
    ]);
  });

  it('ends a round once, however its end shows', () => {
    expect(
      ends([
        [5, 0, 9],
        [1024, 0, 2000],
        [1024, 2001, 4000],
        [1, 4001, 4001],
      ]),
    ).toEqual(['with 0', 'with 3', '2 rounds']);
  });

  it('counts a full round as one with the next that goes on above it: Xen tells no more', () => {
    expect(
      ends([
        [1024, 0, 1023],
        [3, 2000, 2010],
      ]),
    ).toEqual(['with 1', '1 rounds']);
  });

  it('ends the last round when no pages follow, also when it was full', () => {
    expect(ends([[1024, 0, 1023]])).toEqual(['1 rounds']);
    expect(ends([])).toEqual(['0 rounds']);
  });
});
