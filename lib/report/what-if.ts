import { GodwitError } from '../errors.ts';
import type { LimitsChange, PolicyName } from '../precopy/limits.ts';
import { openPolicy } from '../precopy/policy/open.ts';
import { el, join, type Markup } from './chart/markup.ts';
import type { LedgerRecord } from './records.ts';
import { answerInWords, type Replay, replay, smallestInWords } from './replay.ts';
import { isFigure, shortDuration } from './words.ts';

/** What another limit or policy would have made of a move. */
export interface WhatIf {
  /** `half the suspension limit, 150 ms`. */
  readonly change: string;
  readonly replayed: Pick<Replay, 'outcome' | 'last'>;
  readonly smallest: Replay['smallest'];
}

/** A longer record takes seconds to be asked again: that is for `replay`. */
const MAX_CONSULTATIONS = 5000;

/**
 * The consultations of a ledger under half and twice its suspension limit, with the other preference
 * and under another policy; none where nothing was consulted about, or far too much.
 * @param records as `parseLedger` returns them
 */
export async function whatIfs(records: readonly LedgerRecord[]): Promise<WhatIf[]> {
  const [start] = records;
  const consulted = records.filter(({ type }) => type === 'consultation').length;
  if (start?.type !== 'start' || consulted === 0 || consulted > MAX_CONSULTATIONS) return [];
  const { policy, limits } = start;
  const found: WhatIf[] = [];
  const { maxSuspendMs: limit, prefer } = limits;
  const own = policy === 'custom' ? 'contract' : policy;
  if (own !== policy) await add('the contract policy', own, {});
  if (isFigure(limit)) {
    const [half, twice] = [Math.max(1, Math.round(limit / 2)), limit * 2];
    await add(`half the suspension limit, ${shortDuration(half)}`, own, { maxSuspendMs: half });
    await add(`twice the suspension limit, ${shortDuration(twice)}`, own, { maxSuspendMs: twice });
  }
  if (own === 'contract') {
    const other = prefer === 'workload' ? 'completion' : 'workload';
    await add(`${other} preferred`, own, { prefer: other });
  }
  const rival = own === 'contract' ? 'xen' : 'contract';
  await add(`the ${rival} policy`, rival, {});
  return found;

  async function add(change: string, name: PolicyName, changed: LimitsChange): Promise<void> {
    const { consult, close } = await openPolicy(name);
    try {
      const replayed = await replay(records, { policy: name, consult, limits: changed });
      const { outcome, last, smallest } = replayed;
      found.push({ change, replayed: { outcome, last }, smallest });
    } catch (error) {
      // Limits of the record that do not go together with the changed one.
      if (!(error instanceof GodwitError)) throw error;
    } finally {
      await close();
    }
  }
}

/** What each would have decided, and the smallest limit that would have done. */
export function whatIfTable(all: readonly WhatIf[]): Markup {
  if (all.length === 0) return join([]);
  // One line for those that come to the same.
  const answers = Map.groupBy(all, ({ replayed }) => {
    const { outcome, last } = replayed;
    const why = outcome === 'undecided' ? '' : `: ${last?.verdict.reason ?? ''}`;
    return `${answerInWords(replayed)}${why}`;
  });
  const rows = [...answers].map(([answer, those]) => [
    `With ${those.map(({ change }) => change).join('; with ')}`,
    answer,
  ]);
  const smallest = all.find((one) => one.smallest !== undefined)?.smallest;
  return el(
    'section',
    {},
    el('h2', {}, 'What if'),
    el(
      'p',
      { class: 'quiet' },
      'The same figures, put to another policy or under another limit. What the guest would have done after the recorded decision is not known: an answer is for that moment or an earlier one.',
    ),
    el(
      'table',
      { class: 'what-if' },
      el(
        'tbody',
        {},
        rows.map(([change, answer]) =>
          el('tr', {}, el('th', { scope: 'row' }, change), el('td', {}, answer)),
        ),
      ),
    ),
    smallest &&
      el('p', {}, `The smallest limit that would have done: ${smallestInWords(smallest)}.`),
  );
}
