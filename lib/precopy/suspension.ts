import { GodwitError } from '../errors.ts';
import { formatDuration } from '../units.ts';
import { type Division, deadlineMs, enoughAfter } from './fit.ts';

/** Parts of the suspension, in order, milliseconds on the source's clock. */
export interface SuspensionParts {
  /** Until the hypervisor says that nothing executes. */
  readonly suspend: number;
  /** Last harvest of the dirty log. */
  readonly sync: number;
  /** Last pages sent, verified, written and acknowledged. */
  readonly pages: number;
  /** What saving and sending the device state took beyond the last pages, beside and behind which it goes. */
  readonly deviceState: number;
  /** Digests computed and sent. */
  readonly digest: number;
  /**
   * From there until Commit is said: digest compared, memory re-read if asked, what is left of the
   * device state's arriving and loading, and the source's record durable.
   */
  readonly prepare: number;
  /** From Commit until the guest ran, as far as the destination's word tells. */
  readonly commit: number;
}

/** The clock of one suspension: its parts, and its deadline. */
export class Suspension {
  readonly limitMs: number | undefined;
  /** From its beginning to the deadline, ms; undefined without a limit. */
  readonly allowedMs: number | undefined;
  /** When it began, on the clock of `performance`. */
  readonly startedMs: number;
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #parts: { -readonly [K in keyof SuspensionParts]?: number } = {};
  #markedMs: number;
  #endedMs: number | undefined;

  /**
   * @param agoMs when it began, before now
   * @param reserveMs kept free of a limit that is large enough, for what follows the deadline on either side
   * @param onDeadline called when it has passed; without a limit it never does
   */
  constructor(
    {
      limitMs,
      reserveMs,
      agoMs,
    }: { limitMs: number | undefined; reserveMs: number; agoMs: number },
    onDeadline: () => void,
  ) {
    this.startedMs = performance.now() - agoMs;
    this.#markedMs = this.startedMs;
    this.limitMs = limitMs;
    if (limitMs === undefined) return;
    this.allowedMs = deadlineMs(limitMs, reserveMs);
    this.#timer = setTimeout(onDeadline, this.leftMs);
  }

  get parts(): Partial<SuspensionParts> {
    return this.#parts;
  }

  /** Since it began, or its whole length once it has ended. */
  get ms(): number {
    return (this.#endedMs ?? performance.now()) - this.startedMs;
  }

  /** Until the deadline, ms; Infinity without one. */
  get leftMs(): number {
    return this.allowedMs === undefined ? Infinity : Math.max(0, this.allowedMs - this.ms);
  }

  /** True when it would be too late to give the guest away. */
  get late(): boolean {
    return this.leftMs === 0;
  }

  /** The part ends now, or ended that long ago; nothing is a part of it once the guest runs again. */
  mark(part: keyof SuspensionParts, agoMs = 0): void {
    if (this.#endedMs !== undefined) return;
    const endedMs = Math.max(this.#markedMs, performance.now() - agoMs);
    this.#parts[part] = endedMs - this.#markedMs;
    this.#markedMs = endedMs;
  }

  /**
   * The guest runs at its destination. What that writes and says afterwards is no part of the suspension.
   * @param resumeMs from hearing Commit there until it ran, as the destination says; 0: it does not
   * @param wayMs of Commit to the destination, as far as it is known
   */
  runsThere(resumeMs: number, wayMs: number): void {
    if (this.#endedMs !== undefined) return;
    const sinceCommitMs = performance.now() - this.#markedMs;
    this.mark('commit', resumeMs > 0 ? Math.max(0, sinceCommitMs - wayMs - resumeMs) : 0);
    this.end(this.#markedMs - this.startedMs);
  }

  /** Commit is reached or given up: the deadline has done its work. */
  disarm(): void {
    clearTimeout(this.#timer);
  }

  /** The guest runs again, since it was suspended for that long, ms: until now, where nothing is said. */
  end(ms = this.ms): void {
    this.disarm();
    this.#endedMs ??= this.startedMs + ms;
  }

  /**
   * What to tell the operator of a missed deadline: by how much, and what would have been enough.
   * @param neededMs how long it would have been, as far as that can be told
   */
  missed(doing: string, neededMs: number, division: Division): GodwitError {
    const limitMs = this.limitMs!;
    const enoughMs = enoughAfter(Math.max(neededMs, limitMs), division);
    return new GodwitError(
      'suspension-limit',
      `the guest would have been suspended longer than ${formatDuration(limitMs)}: the deadline passed while ${doing}. ` +
        `It runs on at its source. It missed by about ${formatDuration(Math.max(10, neededMs - limitMs))}; ` +
        `--max-suspend-time ${enoughMs}ms would have been enough`,
      { enoughMs },
    );
  }
}
