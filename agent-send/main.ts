import { runProgram } from '../lib/control/cli.ts';
import { versionCommand } from '../lib/control/version.ts';
import { changeOf, limitOptions } from './commands/limit-options.ts';
import { guests, manage, migrate } from './commands/migrate.ts';
import { report } from './commands/report.ts';
import { serve } from './commands/serve.ts';

const set = manage.action(
  'set',
  'Changes limits of a running migration; "none" takes a limit away.',
  'PATCH',
  '',
  limitOptions,
  changeOf,
);
const cutover = manage.action(
  'cutover',
  'Stop-and-copy now; the suspension limit still holds.',
  'POST',
  '/cutover',
);

process.exitCode = await runProgram(
  {
    name: 'agent-send',
    summary: 'Sends running guests of this host to other hosts.',
    commands: [
      ...[serve, migrate, manage.list, manage.show],
      ...[
        set,
        cutover,
        manage.cancel,
        manage.resolve,
        report,
        guests,
        versionCommand('agent-send'),
      ],
    ],
  },
  process.argv.slice(2),
);
