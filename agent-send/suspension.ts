import { GodwitError } from '../lib/errors.ts';
import type { SuspensionParts } from '../lib/report/records.ts';
import { formatDuration } from '../lib/units.ts';

/**
 * Kept free of the limit for what follows commit: Commit's way to the destination, waking the
 * vCPUs, and threads that are scheduled late.
 */
const RESERVE_MS = 30;
const RESERVE_ROUND_TRIPS = 2;
/** The reserve never takes more than this share of the limit. */
const RESERVE_SHARE = 1 / 3;

/** How much of the limit is kept for what still follows commit, ms. */
export function reserveMs(limitMs: number, roundTripMs: number): number {
  return Math.min(limitMs * RESERVE_SHARE, RESERVE_MS + RESERVE_ROUND_TRIPS * roundTripMs);
}

/** The clock of one suspension: its parts, and the deadline for commit. */
export class Suspension {
  readonly limitMs: number | undefined;
  readonly #startedMs = performance.now();
  readonly #commitByMs: number | undefined;
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #parts: { -readonly [K in keyof SuspensionParts]?: number } = {};
  #markedMs = this.#startedMs;
  #endedMs: number | undefined;

  /**
   * Starts now, when the guest stops. `onDeadline` is called when commit
   * was not reached in time; no limit, no deadline.
   */
  constructor(limitMs: number | undefined, roundTripMs: number, onDeadline: () => void) {
    this.limitMs = limitMs;
    if (limitMs === undefined) return;
    const allowedMs = limitMs - reserveMs(limitMs, roundTripMs);
    this.#commitByMs = this.#startedMs + allowedMs;
    this.#timer = setTimeout(onDeadline, allowedMs);
  }

  get parts(): Partial<SuspensionParts> {
    return this.#parts;
  }

  /** Since it began, or its whole length once it has ended. */
  get ms(): number {
    return (this.#endedMs ?? performance.now()) - this.#startedMs;
  }

  /** True when commit would come too late. */
  get late(): boolean {
    return this.#commitByMs !== undefined && performance.now() > this.#commitByMs;
  }

  /** The part ends now. */
  mark(part: keyof SuspensionParts): void {
    const now = performance.now();
    this.#parts[part] = now - this.#markedMs;
    this.#markedMs = now;
  }

  /** Commit is reached or given up: the deadline has done its work. */
  disarm(): void {
    clearTimeout(this.#timer);
  }

  /** The guest runs again. */
  end(): void {
    this.disarm();
    this.#endedMs ??= performance.now();
  }

  /**
   * What to tell the operator of a missed deadline: by how much, and what would have been enough.
   * `stillMs` is the time that the rest would have taken, as far as that can be told.
   */
  missed(doing: string, stillMs: number): GodwitError {
    const limitMs = this.limitMs!;
    const roundedNeed = Math.ceil((this.ms + stillMs + (limitMs - this.#allowedMs())) / 10) * 10;
    return new GodwitError(
      'suspension-limit',
      `the guest would have been suspended longer than ${formatDuration(limitMs)}: the deadline passed while ${doing}. ` +
        `It runs on at its source. It missed by about ${formatDuration(roundedNeed - limitMs)}; ` +
        `--max-suspend-time ${formatOption(roundedNeed)} would have been enough`,
    );
  }

  #allowedMs(): number {
    return this.#commitByMs! - this.#startedMs;
  }
}

/** A duration as the command line takes it. */
function formatOption(ms: number): string {
  return `${Math.round(ms)}ms`;
}
