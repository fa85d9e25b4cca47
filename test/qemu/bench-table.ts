/** What the project wants of a figure, in words, and whether it is so. */
export interface Target {
  readonly text: string;
  readonly met: boolean;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  if (sorted.length % 2 === 1) return sorted[Math.floor(middle)]!;
  return (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Median, lowest and highest: `1.52 (1.49 to 1.70)`; a dash of none. */
export function spread(values: readonly number[]): string {
  if (values.length === 0) return '–';
  const range = `${digits(Math.min(...values))} to ${digits(Math.max(...values))}`;
  return values.length === 1 ? digits(values[0]!) : `${digits(median(values))} (${range})`;
}

/** `1.52`, `12.3`, `445`: three digits say all that a noisy machine knows. */
export function digits(value: number): string {
  return value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);
}

export function inWords(targets: readonly Target[]): string {
  return targets.map(({ text, met }) => `${text}: ${met ? 'met' : 'MISSED'}`).join('; ');
}

/** A Markdown table. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |\n`;
  return line(head) + line(head.map(() => '---')) + rows.map(line).join('');
}
