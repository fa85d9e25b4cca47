import type { Histogram } from './histogram.ts';

export type Labels = Readonly<Record<string, string>>;

/** Lines of Prometheus' text format 0.0.4. */
export class Exposition {
  readonly #lines: string[] = [];
  readonly #common: Labels;

  /** @param common labels of all samples */
  constructor(common: Labels = {}) {
    this.#common = common;
  }

  /** A series of one name, with a sample for each of these labels. */
  series(
    type: 'counter' | 'gauge',
    name: string,
    help: string,
    samples: readonly (readonly [Labels, number])[],
  ): this {
    this.#head(type, name, help);
    for (const [of, value] of samples) this.#sample(name, of, value);
    return this;
  }

  /** A counter without labels. */
  counter(name: string, help: string, value: number): this {
    return this.series('counter', name, help, [[{}, value]]);
  }

  /** A gauge without labels; without a value there is none. */
  gauge(name: string, help: string, value: number | undefined): this {
    return value === undefined ? this : this.series('gauge', name, help, [[{}, value]]);
  }

  histogram(name: string, help: string, histogram: Histogram): this {
    const { bounds, cumulative, sum } = histogram;
    this.#head('histogram', name, help);
    for (const [i, count] of cumulative.entries()) {
      const le = i < bounds.length ? String(bounds[i]) : '+Inf';
      this.#sample(`${name}_bucket`, { le }, count);
    }
    this.#sample(`${name}_sum`, {}, sum);
    this.#sample(`${name}_count`, {}, cumulative.at(-1)!);
    return this;
  }

  toString(): string {
    return `${this.#lines.join('\n')}\n`;
  }

  #sample(name: string, of: Labels, value: number): void {
    this.#lines.push(`${name}${labels({ ...this.#common, ...of })} ${value}`);
  }

  #head(type: string, name: string, help: string): void {
    this.#lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
  }
}

function labels(values: Labels): string {
  const escaped = (text: string) =>
    text.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n');
  const pairs = Object.entries(values).map(([name, value]) => `${name}="${escaped(value)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}
