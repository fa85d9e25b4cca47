import { type HoldStats, type PrecopyStats, UNKNOWN } from './stats.ts';

/**
 * A hold keeps the guest running and ready to be moved until an order, a time or a window comes. It
 * is one text: `cutover`, a date and time with its zone, or a window of every day by the clock of
 * this host.
 */

/** Ends with an order only. */
export const UNTIL_CUTOVER = 'cutover';

/** What such a text may be, for the operator. */
export const HOLD_RULE =
  'cutover, a date and time with its zone (2026-11-30T02:00Z), or a window (02:00-04:00)';

const TIME_OF_DAY = '([01]\\d|2[0-3]):([0-5]\\d)';
const WINDOW = new RegExp(`^${TIME_OF_DAY}-${TIME_OF_DAY}$`);
const INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?(?:Z|[+-]\d\d:\d\d)$/;

/** A window that begins and ends at the same time would never be open, or never closed. */
export function isHold(text: unknown): text is string {
  if (typeof text !== 'string') return false;
  const window = windowOf(text);
  if (window !== undefined) return window.from !== window.to;
  return text === UNTIL_CUTOVER || (INSTANT.test(text) && Number.isFinite(Date.parse(text)));
}

/** How a hold stands at a moment, ms since 1970. Local time is that of this process. */
export function holdAt(hold: string, wallMs: number): HoldStats {
  if (hold === UNTIL_CUTOVER) return { opensMs: UNKNOWN, closesMs: UNKNOWN };
  const window = windowOf(hold);
  if (window === undefined)
    return { opensMs: Math.max(0, Date.parse(hold) - wallMs), closesMs: UNKNOWN };
  // Yesterday's may still be open, today's may be over.
  for (let day = -1; ; day++) {
    const opens = onDay(wallMs, day, window.from);
    const closes = onDay(wallMs, window.to > window.from ? day : day + 1, window.to);
    if (closes <= wallMs) continue;
    if (opens > wallMs) return { opensMs: opens - wallMs, closesMs: UNKNOWN };
    return { opensMs: 0, closesMs: closes - wallMs };
  }
}

/** The guest is not to be moved now. */
export function isHeld({ hold, cutoverRequested }: PrecopyStats): boolean {
  return hold !== undefined && hold.opensMs !== 0 && !cutoverRequested;
}

/** The next time of day `HH:MM` after a moment, ms since 1970; undefined for any other text. */
export function nextTimeOfDay(text: string, wallMs: number): number | undefined {
  const minutes = minutesOf(new RegExp(`^${TIME_OF_DAY}$`).exec(text)?.slice(1) ?? []);
  if (minutes === undefined) return undefined;
  const today = onDay(wallMs, 0, minutes);
  return today > wallMs ? today : onDay(wallMs, 1, minutes);
}

/** A moment by the clock of this host: `2026-11-30 02:00`. */
export function localTime(wallMs: number): string {
  const at = new Date(wallMs);
  const two = (value: number) => value.toString().padStart(2, '0');
  const date = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${date} ${two(at.getHours())}:${two(at.getMinutes())}`;
}

/** When a guest that is held may be moved: `until a cutover is ordered`, `until 2026-11-30 02:00`. */
export function heldUntil({ opensMs }: HoldStats, wallMs: number): string {
  return opensMs === UNKNOWN
    ? 'until a cutover is ordered'
    : `until ${localTime(wallMs + opensMs)}`;
}

/** What was asked for: `until a cutover is ordered`, `until 2026-11-30 02:00`, `outside of 02:00-04:00`. */
export function holdInWords(hold: string): string {
  if (hold === UNTIL_CUTOVER) return 'until a cutover is ordered';
  return windowOf(hold) === undefined
    ? `until ${localTime(Date.parse(hold))}`
    : `outside of ${hold}`;
}

/** Minutes since midnight. */
function windowOf(text: string): { from: number; to: number } | undefined {
  const [h1, m1, h2, m2] = WINDOW.exec(text)?.slice(1) ?? [];
  const from = minutesOf([h1, m1]);
  const to = minutesOf([h2, m2]);
  return from === undefined || to === undefined ? undefined : { from, to };
}

function minutesOf([hours, minutes]: readonly (string | undefined)[]): number | undefined {
  return minutes === undefined ? undefined : Number(hours) * 60 + Number(minutes);
}

/** Through the calendar, since a day may have 23 or 25 hours. */
function onDay(wallMs: number, day: number, minutes: number): number {
  const at = new Date(wallMs);
  return new Date(at.getFullYear(), at.getMonth(), at.getDate() + day, 0, minutes).getTime();
}
