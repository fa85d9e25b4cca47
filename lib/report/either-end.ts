/** A long list from either end: what a reader sees of it, and how many are left out between. */
export interface EitherEnd<T> {
  readonly first: readonly T[];
  readonly left: number;
  readonly last: readonly T[];
}

/** At most so many of a list: a migration may go on for days, and its report is one file. */
export function eitherEnd<T>(all: readonly T[], most: number): EitherEnd<T> {
  if (all.length <= most) return { first: all, left: 0, last: [] };
  const half = Math.floor(most / 2);
  return { first: all.slice(0, half), left: all.length - 2 * half, last: all.slice(-half) };
}
