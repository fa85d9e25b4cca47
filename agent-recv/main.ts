import { runProgram } from '../lib/control/cli.ts';
import { Manage } from '../lib/control/manage.ts';
import { versionCommand } from '../lib/control/version.ts';
import { keygen } from './keygen.ts';
import { serve } from './serve.ts';

const { list, show, cancel, resolve } = new Manage('agent-recv');

process.exitCode = await runProgram(
  {
    name: 'agent-recv',
    summary: 'Receives running guests from other hosts.',
    commands: [serve, list, show, cancel, resolve, keygen, versionCommand('agent-recv')],
  },
  process.argv.slice(2),
);
