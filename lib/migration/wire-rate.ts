/** Bytes per second over the last second or so, from a counter that only grows. */
export class WireRate {
  readonly #windowMs: number;
  /** The oldest entry is about that old. */
  readonly #seen: { readonly atMs: number; readonly bytes: number }[] = [];

  /** @param windowMs the rate is the mean over about this time */
  constructor(windowMs = 1000) {
    this.#windowMs = windowMs;
  }

  /** The counter stands there now. @returns bytes per second; 0 until there are two readings */
  add(bytes: number, atMs = performance.now()): number {
    const seen = this.#seen;
    const last = { atMs, bytes };
    seen.push(last);
    while (seen.length > 2 && atMs - seen[1]!.atMs > this.#windowMs) seen.shift();
    const first = seen[0]!;
    if (last.atMs === first.atMs) return 0;
    return ((last.bytes - first.bytes) * 1000) / (last.atMs - first.atMs);
  }
}
