import os from 'node:os';
import type { Input } from '../../lib/cli/cli.ts';
import { serveCommand } from '../../lib/cli/serve.ts';
import {
  COMMON_RELOADS,
  commonOptions,
  commonOptionsOf,
  durationOf,
  durationOption,
} from '../../lib/cli/serve-options.ts';
import { MAX_KEEP_MS } from '../../lib/guest/kept-memory.ts';
import { parseCount, parseDuration, parseSize } from '../../lib/units.ts';
import { MAX_LANES } from '../../lib/wire/handshake.ts';
import type { SendDaemonOptions } from '../options.ts';

/**
 * A lane takes a core at either end, and the guests have some, too: a second lane on two cores made a move cost a
 * fourth more. More than four gain nothing on a link that one core can fill.
 */
const DEFAULT_LANES = String(Math.min(4, Math.ceil(os.availableParallelism() / 2)));
const CONNECT_TIMEOUT = {
  help: 'longest wait for a connection',
  min: 500,
  max: 600_000,
  otherwise: '5s',
};

const KEEP_MEMORY = {
  help: 'the memory of a guest that left is kept so long for\nits return; 0s: not at all',
  min: 0,
  max: MAX_KEEP_MS,
  otherwise: '0s',
};

/** Of ledgers: an hour is for whoever wants none, ten years for whoever wants all. */
const KEEP = { min: 3_600_000, max: 3653 * 86_400_000 };
const SPACE = { min: 1 << 20, max: 2 ** 50 };

export const serve = serveCommand({
  options: {
    ...commonOptions('agent-send'),
    lanes: {
      value: 'N',
      help: 'data connections of a migration',
      range: `1 to ${MAX_LANES}`,
      otherwise: 'as many as there are cores, at most 4',
    },
    'connect-timeout': durationOption(CONNECT_TIMEOUT),
    'keep-memory': durationOption(KEEP_MEMORY),
    'keep-ledgers': {
      value: 'DURATION',
      help: 'ledgers of migrations that ended longer ago are removed: 90d',
      otherwise: 'all are kept',
    },
    'ledger-space': {
      value: 'SIZE',
      help: 'the oldest ledgers are removed when all take more: 1GiB',
      otherwise: 'no limit',
    },
  },
  reloads: [
    ...COMMON_RELOADS,
    ...['lanes', 'connect-timeout', 'keep-memory', 'keep-ledgers', 'ledger-space'],
  ],
  parse: optionsOf,
  async check(settings) {
    const { Ownership } = await import('../../lib/ownership/ownership.ts');
    const { SOURCE_STATES } = await import('../../lib/ownership/source-machine.ts');
    Ownership.inspect(SOURCE_STATES, settings);
  },
  async start(options) {
    // Only the daemon needs workers and the protocol; the other commands start faster without.
    const { startSendDaemon } = await import('../start.ts');
    return startSendDaemon(options);
  },
});

function optional(
  input: Input,
  name: string,
  parse: (text: string, option: string) => number,
): number | undefined {
  const text = input.option(name);
  return text === undefined ? undefined : parse(text, `--${name}`);
}

function optionsOf(input: Input): SendDaemonOptions {
  const lanes = input.option('lanes') ?? DEFAULT_LANES;
  return {
    ...commonOptionsOf('agent-send', input),
    lanes: parseCount(lanes, '--lanes', { min: 1, max: MAX_LANES }),
    connectTimeoutMs: durationOf(input, 'connect-timeout', CONNECT_TIMEOUT),
    keepMemoryMs: durationOf(input, 'keep-memory', KEEP_MEMORY),
    retention: {
      keepMs: optional(input, 'keep-ledgers', (text, name) => parseDuration(text, name, KEEP)),
      keepBytes: optional(input, 'ledger-space', (text, name) => parseSize(text, name, SPACE)),
    },
  };
}
