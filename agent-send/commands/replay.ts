import path from 'node:path';
import { type Command, type Input, type Option, print } from '../../lib/cli/cli.ts';
import { EXIT } from '../../lib/exit.ts';
import { openPolicy } from '../../lib/precopy/policy/open.ts';
import type { StartRecord } from '../../lib/report/records.ts';
import { type Replay, replay as replayLedger, replayText } from '../../lib/report/replay.ts';
import { ledgerOf, ledgerOptions } from './ledger-input.ts';
import { patchOf, setOptions } from './limit-options.ts';
import { policyOf } from './migrate.ts';

/** A cap on the stream would have changed what was measured: it cannot be replayed. */
const { bandwidth: _, 'suspend-bandwidth': __, ...recordedLimits } = setOptions;

const EXIT_OF: Record<Replay['outcome'], number> = {
  'stop-and-copy': EXIT.completed,
  abort: EXIT['aborted-by-policy'],
  undecided: EXIT.failed,
};

const changes = {
  ...Object.fromEntries(
    Object.entries(recordedLimits).map(([name, option]) => [
      name,
      { ...option, otherwise: 'as recorded' },
    ]),
  ),
  policy: { value: 'contract|xen|custom', help: 'who decides', otherwise: 'as recorded' },
  'policy-module': {
    value: 'FILE.ts',
    help: 'policy custom: ES module that exports policy(stats, limits)',
  },
};

export const replay: Command = {
  name: 'replay',
  arguments: ['[ID]'],
  summary:
    'Says what other limits or another policy would have decided; without ID for the newest.',
  options: { ...changes, ...ledgerOptions },
  async run(input) {
    patchOf(input, 0); // refuses what makes no sense before anything is read
    const records = await ledgerOf('replay', input);
    const start = records[0] as StartRecord;
    const limits = patchOf(input, Date.parse(start.time));
    const policy = policyFor(input, start);
    const module = input.option('policy-module');
    const opened = await openPolicy(policy, module && path.resolve(module));
    try {
      const { consult } = opened;
      const replayed = await replayLedger(records, { policy, consult, limits });
      print(input, replayed, () => `${replayText(replayed, changeIn(input))}\n`);
      return EXIT_OF[replayed.outcome];
    } finally {
      await opened.close();
    }
  },
};

/** @throws GodwitError bad-option */
function policyFor(input: Input, recorded: StartRecord): StartRecord['policy'] {
  const otherwise = input.option('policy-module') === undefined ? recorded.policy : 'custom';
  return policyOf(input.option('policy') ?? otherwise);
}

/** What was asked for, as it was typed. */
function changeIn({ option, flag }: Input): string {
  const given = Object.entries<Option>(changes).flatMap(([name, { value }]) => {
    if (value === undefined) return flag(name) ? `--${name}` : [];
    const text = option(name);
    return text === undefined ? [] : `--${name} ${text}`;
  });
  return given.length === 0 ? 'under its own policy and limits' : `with ${given.join(' ')}`;
}
