import type { Outcome } from '../report/records.ts';
import { OUTCOME_WORDS } from '../report/turning-points.ts';
import { plural } from '../report/words.ts';
import { formatDuration, formatRate } from '../units.ts';
import type { EvacuationView, Leaving } from './view.ts';

/** Guests by what has come of them, as they stand now. */
export interface Tally {
  readonly moved: number;
  readonly stay: number;
  readonly moving: number;
  readonly waiting: number;
}

export function tallyOf({ leaving, moving }: EvacuationView): Tally {
  const ended = leaving.flatMap(({ end }) => end?.outcome ?? []);
  const moved = ended.filter((outcome) => outcome === 'completed').length;
  const waiting = leaving.length - ended.length - moving.length;
  return { moved, stay: ended.length - moved, moving: moving.length, waiting };
}

/** `3 of 12 guests moved, 1 not, 2 on their way, 6 wait`. */
export function tallyInWords(view: EvacuationView): string {
  const { moved, stay, moving, waiting } = tallyOf(view);
  const parts = [
    `${moved} of ${plural(view.leaving.length, 'guest')} moved`,
    stay > 0 && `${stay} not`,
    moving > 0 && `${moving} on ${moving === 1 ? 'its' : 'their'} way`,
    waiting > 0 && `${waiting} ${waiting === 1 ? 'waits' : 'wait'}`,
  ];
  return parts.filter(Boolean).join(', ');
}

/** How it was asked for: `4 at once, 125 MiB/s for all, smallest first, by root`. */
export function askedInWords(view: EvacuationView): string {
  const { parallel, bandwidth, order, retryUpToMs, by } = view;
  const { policy, limits, verify } = view.move;
  const parts = [
    `${parallel} at once`,
    bandwidth !== undefined && `${formatRate(bandwidth)} for all`,
    order === 'name' ? 'by name' : `${order} first`,
    policy !== 'contract' && `policy ${policy}`,
    limits.maxSuspendMs !== undefined && `suspended at most ${formatDuration(limits.maxSuspendMs)}`,
    retryUpToMs !== undefined && `tried again with up to ${formatDuration(retryUpToMs)}`,
    verify && 'verified',
    by !== undefined && `asked for by ${by}`,
  ];
  return parts.filter(Boolean).join(', ');
}

/** Since it began, ms. */
export function elapsedMs({ startedAt, endedAt }: EvacuationView, now: number): number {
  return (endedAt === undefined ? now : Date.parse(endedAt)) - Date.parse(startedAt);
}

/** How the whole ended. */
export function outcomeInWords({ outcome }: EvacuationView): string {
  return outcome === undefined ? 'it goes on' : WORDS[outcome];
}

const WORDS: Readonly<Record<Outcome, string>> = {
  completed: 'all guests have moved',
  cancelled: 'cancelled: not all guests have moved',
  aborted: 'not all guests have moved: policies or limits kept some here',
  failed: 'not all guests have moved: moves have failed',
  'needs-resolve': 'where a guest may run is not known',
};

/** A guest of a summary: its outcome and figures, in columns. */
export const COLUMNS = [
  ...(['GUEST', 'OUTCOME', 'TO', 'SUSPENDED', 'LIMIT', 'TRIES', 'TIME'] as const),
];

export function cellsOf({ name, tries, destination, end }: Leaving): readonly string[] {
  const { outcome, suspensionMs, limitMs, ms } = end ?? {};
  const duration = (value: number | undefined) =>
    value === undefined ? '-' : formatDuration(value);
  return [
    name,
    outcome === undefined ? 'waits' : OUTCOME_WORDS[outcome],
    destination ?? '-',
    duration(suspensionMs),
    duration(limitMs),
    String(tries),
    duration(ms),
  ];
}

/** What the columns do not say: why a guest stays or waits, who has refused it, which limits were tried. */
export function remarksOf({ end, waitsFor, refused, raisedMs }: Leaving): readonly string[] {
  const { outcome, message, code } = end ?? {};
  const why = outcome !== 'completed' && message !== undefined ? `${message} (${code})` : undefined;
  const limits = raisedMs.map(formatDuration).join(', ');
  return [
    ...(why === undefined ? [] : [why]),
    ...(waitsFor === undefined ? [] : [`waits: ${waitsFor}`]),
    ...refused
      .map((one) => `refused by ${one.destination}: ${one.message} (${one.code})`)
      .filter((text) => why === undefined || !text.endsWith(why)),
    ...(limits === '' ? [] : [`tried again with a suspension limit of ${limits}`]),
  ];
}
