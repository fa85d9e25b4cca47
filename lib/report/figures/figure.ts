import type { Markup } from '../chart/markup.ts';
import type { Series } from '../chart/series.ts';
import { eitherEnd } from '../either-end.ts';
import { count } from '../words.ts';

export interface Table {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

export interface LegendEntry {
  readonly text: string;
  /** Class of its swatch. */
  readonly swatch: string;
  /** On a wide page the chart says it itself. */
  readonly narrow?: boolean;
}

/** Rows of a table. */
const MAX_ROWS = 400;

/** A chart with the words around it. */
export interface Figure {
  readonly title: string;
  /** What to look at, one sentence. */
  readonly caption: string;
  readonly wide: boolean;
  /** Draws it for a width in px; the id must be unique in the page. */
  readonly draw: (id: string, width: number) => Markup;
  readonly legend: readonly LegendEntry[];
  readonly table: Table;
}

export function seriesLegend(series: readonly Series[]): LegendEntry[] {
  return series
    .filter(({ points }) => points.length > 0)
    .map(({ name, tone, stroke, mark }) => ({
      text: name,
      swatch:
        mark === 'diamond' ? `swatch-diamond ink-${tone}` : `swatch-line ${stroke} ink-${tone}`,
      narrow: true,
    }));
}

/** Rows of a table from either end, with how many are left out between. */
export function boundedRows<T>(
  all: readonly T[],
  row: (one: T, index: number) => readonly string[],
): (readonly string[])[] {
  const { first, left, last } = eitherEnd(all, MAX_ROWS);
  const from = all.length - last.length;
  const gap = left === 0 ? [] : [[`… ${count(left)}`]];
  return [...first.map(row), ...gap, ...last.map((one, i) => row(one, from + i))];
}
