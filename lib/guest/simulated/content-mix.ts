import { GodwitError } from '../../errors.ts';
import { hash3 } from './random.ts';

/** What guest pages hold. A `duplicate` is byte for byte the same as some other page. */
export const PAGE_KINDS = ['zero', 'text', 'binary', 'random', 'duplicate'] as const;
export type PageKind = (typeof PAGE_KINDS)[number];

/** Percent of the pages of each kind; the sum is 100. */
export type ContentMix = Readonly<Record<PageKind, number>>;

export const DEFAULT_MIX: ContentMix = { zero: 30, text: 25, binary: 30, random: 5, duplicate: 10 };

/**
 * Kinds come in runs, as a real guest's memory does (a file in the page cache, a heap, a pool of
 * free pages): a 256-page block has one kind in a quarter of the cases, else its 64-page parts are
 * asked, and so on down to 4 pages.
 */
const RUN_LEVELS = [
  { shift: 8, oneIn: 4 },
  { shift: 6, oneIn: 3 },
  { shift: 4, oneIn: 2 },
  { shift: 2, oneIn: 1 },
] as const;

/** Reads `zero=30,text=25,…`; kinds left out are 0. @throws GodwitError bad-option */
export function parseContentMix(text: string, option: string): ContentMix {
  const refuse = (why: string) =>
    new GodwitError(
      'bad-option',
      `${option} cannot be "${text}": ${why}; it takes percentages that add up to 100, ` +
        'as in zero=30,text=25,binary=30,random=5,duplicate=10',
    );
  const mix: Record<PageKind, number> = { zero: 0, text: 0, binary: 0, random: 0, duplicate: 0 };
  for (const part of text.split(',')) {
    const [kind = '', percent = ''] = part.split('=');
    if (!isPageKind(kind)) throw refuse(`"${kind}" is not a kind of page`);
    if (!/^\d{1,3}$/.test(percent)) throw refuse(`${kind} has no whole percentage`);
    mix[kind] += Number(percent);
  }
  const sum = PAGE_KINDS.reduce((total, kind) => total + mix[kind], 0);
  if (sum !== 100) throw refuse(`they add up to ${sum}`);
  return mix;
}

/** The kind that a page has when the guest boots. */
export function pageKindAt(mix: ContentMix, seed: number, pfn: number): PageKind {
  for (const { shift, oneIn } of RUN_LEVELS) {
    const draw = hash3(seed, pfn >>> shift, shift);
    if (draw % oneIn === 0) return kindOfPercent(mix, hash3(draw, seed, shift) % 100);
  }
  return 'zero'; // unreachable: the last level takes every block
}

function kindOfPercent(mix: ContentMix, percent: number): PageKind {
  let below = 0;
  for (const kind of PAGE_KINDS) {
    below += mix[kind];
    if (percent < below) return kind;
  }
  return 'zero';
}

function isPageKind(text: string): text is PageKind {
  return (PAGE_KINDS as readonly string[]).includes(text);
}
