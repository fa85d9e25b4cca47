import { type Program, runProgram } from '../lib/cli/cli.ts';
import { versionCommand } from '../lib/cli/version.ts';
import { attach } from './commands/attach.ts';
import { check } from './commands/check.ts';
import { evacuate } from './commands/evacuate.ts';
import { changeOf, setOptions } from './commands/limit-options.ts';
import { list } from './commands/list.ts';
import { calibration, guests, manage, migrate } from './commands/migrate.ts';
import { ocf } from './commands/ocf.ts';
import { profile } from './commands/profile.ts';
import { replay } from './commands/replay.ts';
import { report } from './commands/report.ts';
import { serve } from './commands/serve.ts';
import { xl } from './commands/xl.ts';

const set = manage.action(
  'set',
  'Changes limits of a running migration; "none" takes a limit away.',
  'PATCH',
  '',
  setOptions,
  changeOf,
);
const cutover = manage.action(
  'cutover',
  'Stop-and-copy now, unless the forecast is above the limits.',
  'POST',
  '/cutover',
  { force: { help: 'whatever the forecast; the suspension limit is enforced' } },
  (input) => ({ force: input.flag('force') }),
);

export const program: Program = {
  name: 'agent-send',
  summary: 'Sends running guests of this host to other hosts.',
  commands: [
    ...[serve, migrate, check, evacuate, list, manage.show, attach, manage.watch, manage.wait],
    ...[
      set,
      cutover,
      manage.cancel,
      manage.resolve,
      report,
      replay,
      guests,
      profile,
      calibration,
      ocf,
      xl,
      versionCommand('agent-send'),
    ],
  ],
};

// The manual and the shells' completion are made of it as well.
if (import.meta.main) process.exitCode = await runProgram(program, process.argv.slice(2));
