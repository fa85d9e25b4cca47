/** How often a figure was at most so large: a Prometheus histogram. */
export class Histogram {
  /** Upper bounds, growing; what is above the last one is counted, too. */
  readonly bounds: readonly number[];
  readonly #counts: number[];
  #sum = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.#counts = new Array(bounds.length + 1).fill(0);
  }

  add(value: number): void {
    const at = this.bounds.findIndex((bound) => value <= bound);
    this.#counts[at === -1 ? this.bounds.length : at]!++;
    this.#sum += value;
  }

  get sum(): number {
    return this.#sum;
  }

  /** For each bound, and for infinity as the last, how many were at most as large. */
  get cumulative(): readonly number[] {
    let all = 0;
    return this.#counts.map((count) => {
      all += count;
      return all;
    });
  }
}
