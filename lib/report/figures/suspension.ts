import type { SuspensionParts } from '../../precopy/suspension.ts';
import { formatDuration, formatSize } from '../../units.ts';
import type { Part } from '../chart/bars.ts';
import { suspensionChart } from '../chart/suspension.ts';
import type { SuspensionRecord } from '../records.ts';
import type { Story } from '../story.ts';
import { isFigure, percent } from '../words.ts';
import type { Figure } from './figure.ts';

const PARTS: readonly (readonly [keyof SuspensionParts, string, string])[] = [
  ['suspend', 'stop the guest', 'part-guest-1'],
  ['sync', 'last dirty log', 'part-pages-1'],
  ['pages', 'last pages', 'part-pages-2'],
  ['deviceState', 'device state', 'part-guest-2'],
  ['digest', 'digest', 'part-pages-3'],
  ['prepare', 'verify and load', 'part-agree-1'],
  ['commit', 'commit and resume', 'part-agree-2'],
];

/** The suspension in its parts against the deadline. */
export function suspensionFigure({ suspension, start }: Story): Figure | undefined {
  if (suspension === undefined) return undefined;
  const { estimate, guestMs, limitMs, agentMs } = suspension;
  const parts = suspensionParts(suspension);
  const finite = estimate !== undefined && Object.values(estimate).every(isFigure);
  const ending = suspension.side === 'source' ? 'rolled back' : 'running at the destination';
  const title = 'The suspension in its parts';
  const rows = parts.map(({ name, ms }) => [
    name,
    formatDuration(ms),
    agentMs > 0 ? percent(ms / agentMs) : '–',
  ]);
  return {
    title,
    caption: `From the guest's last instruction on the source until it was ${ending}.${besides(suspension)}`,
    wide: true,
    draw: (id, width) =>
      suspensionChart(
        {
          id,
          title,
          description: `${start.guest}: ${parts.map(({ name, ms }) => `${name} ${formatDuration(ms)}`).join(', ')}`,
          estimate: finite ? estimate : undefined,
          parts,
          guestMs: isFigure(guestMs) ? guestMs : undefined,
          limitMs: isFigure(limitMs) ? limitMs : undefined,
        },
        width,
      ),
    legend: [],
    table: { head: ['part', 'time', 'share'], rows },
  };
}

/** What went beside the parts. */
function besides({ deviceState }: SuspensionRecord): string {
  if (deviceState === undefined || !Object.values(deviceState).every(isFigure)) return '';
  const { bytes, savedMs, sentMs } = deviceState;
  return ` Beside the parts ${formatSize(bytes)} of device state were saved in ${formatDuration(savedMs)}, and on their way after ${formatDuration(sentMs)}.`;
}

/** Parts that were reached, and what they leave of the agents' time: after a roll back, its cost. */
function suspensionParts({ parts, agentMs, side }: SuspensionRecord): Part[] {
  const reached = PARTS.flatMap(([key, name, fill]): Part[] => {
    const ms = parts[key];
    return isFigure(ms) && ms >= 0 ? [{ name, fill, ms }] : [];
  });
  const rest = agentMs - reached.reduce((sum, { ms }) => sum + ms, 0);
  const name = side === 'source' ? 'unfinished, rolled back' : 'between the parts';
  const worthIt = isFigure(rest) && rest > Math.max(0.5, agentMs * 0.02);
  return worthIt ? [...reached, { name, fill: 'part-rest', ms: rest }] : reached;
}
