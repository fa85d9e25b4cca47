import { type Command, type Input, type Option, print } from '../../lib/cli/cli.ts';
import { historyText } from '../../lib/cli/listing.ts';
import { GodwitError } from '../../lib/errors.ts';
import { EXIT } from '../../lib/exit.ts';
import { HISTORY_OUTCOMES, type PastMigration } from '../../lib/report/history.ts';
import { parseDuration } from '../../lib/units.ts';
import { manage } from './migrate.ts';

const filters: Readonly<Record<string, Option>> = {
  all: {
    help: 'from the ledgers: all that this host has begun, the\nnewest first; implied by what follows',
  },
  since: { value: 'TIME', help: 'begun then or later: 2d, 12h, or 2026-11-30T02:00' },
  guest: { value: 'GUEST', help: 'of that guest' },
  outcome: {
    value: HISTORY_OUTCOMES[0]!,
    help: `that ended so: ${HISTORY_OUTCOMES.slice(0, 4).join(', ')},\n${HISTORY_OUTCOMES.slice(4).join(', ')}`,
  },
};

/** `list`: what the daemon knows, or what the ledgers tell of all that this host has begun. */
export const list: Command = {
  ...manage.list,
  options: { ...filters, ...manage.list.options },
  async run(input) {
    const query = queryOf(input);
    if (query === undefined) return manage.list.run(input);
    const client = manage.client(input);
    const answer = await client.request<{ history: PastMigration[] }>('GET', `/history${query}`);
    print(input, answer, ({ history }) => historyText(history));
    return EXIT.completed;
  },
};

/** Undefined when the ledgers are not asked for. @throws GodwitError bad-option */
function queryOf(input: Input): string | undefined {
  const { option, flag } = input;
  const [since, guest, outcome] = [option('since'), option('guest'), option('outcome')];
  if (!flag('all') && since === undefined && guest === undefined && outcome === undefined)
    return undefined;
  if (outcome !== undefined && !HISTORY_OUTCOMES.some((known) => known === outcome))
    throw new GodwitError(
      'bad-option',
      `--outcome is one of ${HISTORY_OUTCOMES.join(', ')}, not "${outcome}"`,
    );
  const query = new URLSearchParams({
    ...(since === undefined ? {} : { since: new Date(timeOf(since)).toISOString() }),
    ...(guest === undefined ? {} : { guest }),
    ...(outcome === undefined ? {} : { outcome }),
  });
  return query.size === 0 ? '' : `?${query}`;
}

/** So long ago, or that time; ms since 1970. */
function timeOf(text: string): number {
  const shaped = /^\d{4}-\d\d-\d\d/.test(text);
  const at = shaped
    ? Date.parse(text.replace(' ', 'T'))
    : Date.now() - parseDuration(text, '--since');
  if (!Number.isNaN(at)) return at;
  throw new GodwitError('bad-option', `--since cannot be "${text}": there is no such time`);
}
