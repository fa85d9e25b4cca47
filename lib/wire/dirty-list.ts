import { GodwitError } from '../errors.ts';
import type { GuestLayout } from '../memory/guest-layout.ts';
import type { PageSet } from '../memory/page-set.ts';
import type { DirtyList } from './messages.ts';

/** Runs in one DirtyList: at up to 5 bytes for a gap and 5 for a run far below its body limit. */
const RUNS_PER_LIST = 50_000;

/** A round's dirty set as messages; none for an empty set. */
export function* dirtyLists(round: number, set: PageSet): Generator<DirtyList> {
  let firstPfn = 0;
  let at = 0;
  let gapRun: number[] = [];
  for (const run of set.runs()) {
    gapRun.push(run.firstPfn - at, run.pages);
    at = run.firstPfn + run.pages;
    if (gapRun.length === 2 * RUNS_PER_LIST) {
      yield { round, firstPfn, gapRun };
      firstPfn = at;
      gapRun = [];
    }
  }
  if (gapRun.length > 0) yield { round, firstPfn, gapRun };
}

/**
 * Adds the pages of a DirtyList to the set.
 * @throws GodwitError pfn-out-of-range for pages that the guest does not have, bad-message
 */
export function addDirtyList(list: DirtyList, layout: GuestLayout, into: PageSet): void {
  const { firstPfn, gapRun } = list;
  if (gapRun.length % 2 !== 0)
    throw new GodwitError('bad-message', 'DirtyList ends with a gap and no run');
  let at = firstPfn;
  for (let i = 0; i < gapRun.length; i += 2) {
    const first = at + gapRun[i]!;
    const pages = gapRun[i + 1]!;
    at = first + pages;
    if (pages < 1 || at > layout.pfnEnd || !coveredBy(layout, first, at))
      throw new GodwitError(
        'pfn-out-of-range',
        `DirtyList names pages ${first} to ${at - 1}, which the guest does not have`,
      );
    into.addRun({ firstPfn: first, pages });
  }
}

/** Every page from `first` to before `end` exists: neighbouring regions may share a run. */
function coveredBy(layout: GuestLayout, first: number, end: number): boolean {
  let at = first;
  for (const region of layout.regions) {
    if (at >= region.firstPfn && at < region.firstPfn + region.pages)
      at = Math.min(end, region.firstPfn + region.pages);
  }
  return at === end;
}
