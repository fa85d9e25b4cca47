import type { ProfileMethod } from '../guest/profile.ts';
import { PAGE_SIZE } from '../memory/guest-layout.ts';
import type { WindowPages } from '../memory/working-set.ts';
import { type GuestProfile, steadiness } from '../precopy/profile.ts';
import { formatDuration, formatRate, formatSize } from '../units.ts';

/** Columns of a line, however wide the terminal is. */
const BAR = 36;
const LABEL = 10;
const NUMBER = 10;

const METHOD_WORDS: Readonly<Record<ProfileMethod, string>> = {
  'dirty-log': 'by its dirty log',
  'page-sampling': "by QEMU's samples of its pages",
  rehearsal: 'by a rehearsal of its move',
};

/** Windows whose high is at most so much of their median are called so. */
const EVEN = 1.25;
const UNEVEN = 2;

/**
 * A profile for people, in lines of 80 columns at most.
 * @param bars for a terminal; without them a table of the same figures
 */
export function profileText(profile: GuestProfile, bars: boolean): string {
  const { guest, totalPages, workingSet, time } = profile;
  const memory = formatSize(totalPages * PAGE_SIZE);
  const most = Math.max(1, ...workingSet.map(({ high }) => high));
  const width = LABEL + (bars ? BAR + 1 : 0);
  return [
    `guest ${guest} (${memory}), ${howProfiled(profile)}, ${time}`,
    '',
    `${'pages in'.padEnd(width)}${columns('median', '9 of 10', 'median')}`,
    ...workingSet.map((window) => windowLine(window, bars ? most : undefined)),
    '',
    ...profileFacts(profile).map(([name, text]) => `${name.padEnd(LABEL + 2)}${text}`),
    '',
  ].join('\n');
}

/** How the guest was watched: `10.0 s by its dirty log`. */
export function howProfiled({ ms, method = 'dirty-log' }: GuestProfile): string {
  return `${formatDuration(ms)} ${METHOD_WORDS[method]}`;
}

/** One line while it is being taken; at most 79 columns. */
export function profileProgressText({
  elapsedMs,
  ms,
  windowMs,
  pages,
}: { readonly [K in 'elapsedMs' | 'ms' | 'windowMs' | 'pages']: number }): string {
  const shown = formatDuration(Math.min(elapsedMs, ms));
  return `${shown} of ${formatDuration(ms)}  ${pages} pages dirtied within ${formatDuration(windowMs)}`;
}

function windowLine({ windowMs, pages, high }: WindowPages, most: number | undefined): string {
  const label = formatDuration(windowMs)
    .padStart(LABEL - 2)
    .padEnd(LABEL);
  const figures = columns(String(pages), String(high), formatSize(pages * PAGE_SIZE));
  if (most === undefined) return `${label}${figures}`;
  const columnsOf = (count: number) => Math.round((count / most) * BAR);
  const bar = `${'█'.repeat(columnsOf(pages))}${'░'.repeat(columnsOf(high) - columnsOf(pages))}`;
  return `${label}${bar.padEnd(BAR + 1)}${figures}`;
}

function columns(...texts: readonly string[]): string {
  return texts.map((text) => text.padStart(NUMBER)).join(' ');
}

/** What a profile says besides its windows: a word, and what it is about. */
export function profileFacts(profile: GuestProfile): [string, string][] {
  const { dirtyRate, zeroShare, compressedShare, workingSet } = profile;
  const all: [string, string][] = [];
  if (dirtyRate !== undefined) {
    const bytes = formatRate(dirtyRate * PAGE_SIZE);
    const every = formatDuration(workingSet[0]?.windowMs ?? 0);
    all.push(['dirty', `${Math.round(dirtyRate)} pages/s (${bytes}), counted every ${every}`]);
  }
  all.push(...steadinessFacts(profile));
  if (zeroShare === undefined || compressedShare === undefined)
    all.push(['content', 'not sampled: no file holds its memory that could be read']);
  else
    all.push([
      'content',
      `${percent(zeroShare)} zero pages; zstd takes the others to ${percent(compressedShare)}`,
    ]);
  return all;
}

function steadinessFacts(profile: GuestProfile): [string, string][] {
  const found = steadiness(profile);
  if (found === undefined) return [];
  const { windowMs, revisited, spread } = found;
  const word = spread <= EVEN ? 'steady' : spread <= UNEVEN ? 'uneven' : 'bursty';
  const length = formatDuration(windowMs);
  return [
    [word, `9 of 10 windows of ${length} have at most ${spread.toFixed(2)} × the median`],
    [
      'again',
      `${percent(revisited)} of the pages of ${length} are dirtied in the next ${length}, too`,
    ],
  ];
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}
