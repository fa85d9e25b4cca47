/** Changes that a slip of the hand makes of a word: the longer it is, the more. */
const most = (word: string) => (word.length < 4 ? 1 : 2);

/** `; did you mean "NAME"?`, or nothing when none of the names is near. */
export function didYouMean(word: string, names: readonly string[]): string {
  const ranked = names
    .map((name) => ({ name, changes: changesBetween(word.toLowerCase(), name.toLowerCase()) }))
    .sort((a, b) => a.changes - b.changes);
  const [best] = ranked;
  const isNear = best !== undefined && best.changes <= most(word) && best.name !== word;
  return isNear ? `; did you mean "${best.name}"?` : '';
}

/** Letters put in, left out, replaced or exchanged with their neighbour (optimal string alignment). */
function changesBetween(a: string, b: string): number {
  let [before, last] = [[] as number[], Array.from({ length: b.length + 1 }, (_, i) => i)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let changes = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + same);
      const exchanged = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (exchanged) changes = Math.min(changes, before[j - 2]! + 1);
      row.push(changes);
    }
    [before, last] = [last, row];
  }
  return last[b.length]!;
}
