import { amongFigure } from './figures/among.ts';
import { budgetFigure } from './figures/budget.ts';
import type { Figure } from './figures/figure.ts';
import { encodingFigure, levelFigure } from './figures/shares.ts';
import { suspensionFigure } from './figures/suspension.ts';
import { timelineFigures } from './figures/timeline.ts';
import type { Story } from './story.ts';

/** A numbered moment on the time axes. */
export interface Moment {
  readonly number: number;
  readonly at: number;
  readonly text: string;
}

/** All figures that the ledger has data for, in reading order. */
export function figures(story: Story, moments: readonly Moment[]): Figure[] {
  const events = mergeEvents(moments, story.until);
  const all = [
    budgetFigure(story),
    suspensionFigure(story),
    ...timelineFigures(story, events),
    amongFigure(story),
    encodingFigure(story),
    levelFigure(story),
  ];
  return all.filter((figure) => figure !== undefined);
}

/** Moments closer than this share of the axis share a flag: `2–4`. */
const FLAG_SHARE = 0.06;

function mergeEvents(moments: readonly Moment[], until: number): { at: number; label: string }[] {
  const groups: Moment[][] = [];
  for (const moment of moments) {
    const group = groups.at(-1);
    if (group !== undefined && moment.at - group[0]!.at < until * FLAG_SHARE) group.push(moment);
    else groups.push([moment]);
  }
  return groups.map((group) => {
    const [first, last] = [group[0]!, group.at(-1)!];
    return {
      at: first.at,
      label: first === last ? `${first.number}` : `${first.number}–${last.number}`,
    };
  });
}
