import { type Program, runProgram } from '../lib/cli/cli.ts';
import { Manage } from '../lib/cli/manage.ts';
import { versionCommand } from '../lib/cli/version.ts';
import { keygen, renew } from './keygen.ts';
import { serve } from './serve.ts';

const { list, show, watch, wait, cancel, resolve } = new Manage('agent-recv');

export const program: Program = {
  name: 'agent-recv',
  summary: 'Receives running guests from other hosts.',
  commands: [
    serve,
    list,
    show,
    watch,
    wait,
    cancel,
    resolve,
    keygen,
    renew,
    versionCommand('agent-recv'),
  ],
};

// The manual and the shells' completion are made of it as well.
if (import.meta.main) process.exitCode = await runProgram(program, process.argv.slice(2));
