import type { Command } from '../../lib/cli/cli.ts';
import { idOf } from '../../lib/cli/manage.ts';
import { EXIT_OF } from '../../lib/cli/outcome.ts';
import { conclude, follow } from './follow.ts';
import { manage } from './migrate.ts';

export const attach: Command = {
  name: 'attach',
  arguments: ['ID'],
  summary: 'Shows how a migration goes until it ends, as migrate does; Ctrl-C only stops looking.',
  options: { socket: manage.socket },
  async run(input) {
    const client = manage.client(input);
    const ended = await follow(input, client, idOf(input), 'leaves');
    await conclude(input, client, ended);
    return EXIT_OF[ended.outcome!];
  },
};
