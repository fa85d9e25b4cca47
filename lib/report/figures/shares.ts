import { columnChart, type Layer, shareName } from '../chart/columns.ts';
import type { RoundRecord } from '../records.ts';
import type { Story } from '../story.ts';
import { ENCODINGS } from '../summary.ts';
import { count } from '../words.ts';
import { boundedRows, type Figure } from './figure.ts';

/** How pages travelled, as shares of each round. */
export function encodingFigure({ rounds }: Story): Figure | undefined {
  const layers: Layer[] = ENCODINGS.map((name) => ({
    name,
    fill: `encoding-${name}`,
    values: rounds.map(({ encodings }) => encodings[name] ?? 0),
  }));
  return shareFigure(rounds, layers, {
    title: 'Encodings by round',
    caption:
      'Share of pages by how they travelled: raw pages cost the most, zero and same nothing.',
    unit: 'pages',
  });
}

/** Compression levels chosen, as shares of the batches of each round. */
export function levelFigure({ rounds }: Story): Figure | undefined {
  const names = [...new Set(rounds.flatMap(({ levels }) => Object.keys(levels)))];
  names.sort((a, b) => levelOrder(a) - levelOrder(b) || (a < b ? -1 : 1));
  const layers: Layer[] = names.map((name, i) => ({
    name: name === 'off' ? 'off' : `level ${name}`,
    fill: name === 'off' ? 'level-off' : `level-${1 + (i % 5)}`,
    values: rounds.map(({ levels }) => levels[name] ?? 0),
  }));
  return shareFigure(rounds, layers, {
    title: 'Compression by round',
    caption: 'Share of batches by zstd level, chosen from measured rates.',
    unit: 'batches',
  });
}

function levelOrder(name: string): number {
  return name === 'off' ? Number.NEGATIVE_INFINITY : Number(name) || 0;
}

function shareFigure(
  rounds: readonly RoundRecord[],
  layers: readonly Layer[],
  words: { title: string; caption: string; unit: string },
): Figure | undefined {
  const { title, caption, unit } = words;
  const totals = layers.map(({ values }) => values.reduce((a, b) => a + b, 0));
  const all = totals.reduce((a, b) => a + b, 0);
  if (!(all > 0)) return undefined;
  const used = layers.filter((_, i) => totals[i]! > 0);
  const first = rounds[0]!.round;
  const description = layers.map(({ name }, i) => shareName(name, totals[i]! / all)).join(', ');
  return {
    title,
    caption,
    wide: false,
    draw: (id, width) => columnChart({ id, title, description, layers: used, first }, width, 260),
    legend: layers
      .map(({ name, fill }, i) => ({ text: shareName(name, totals[i]! / all), swatch: fill }))
      .filter((_, i) => totals[i]! > 0),
    table: {
      head: ['round', ...used.map(({ name }) => `${name} (${unit})`)],
      rows: [
        ...boundedRows(rounds, ({ round }, i) => [
          count(round),
          ...used.map(({ values }) => count(values[i]!)),
        ]),
        ['all', ...used.map((layer) => count(totals[layers.indexOf(layer)]!))],
      ],
    },
  };
}
