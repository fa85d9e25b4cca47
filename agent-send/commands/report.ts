import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type Command, type Input, print } from '../../lib/cli/cli.ts';
import { GodwitError } from '../../lib/errors.ts';
import { renderEvacuation } from '../../lib/evacuation/report.ts';
import { EXIT } from '../../lib/exit.ts';
import { renderReport } from '../../lib/report/html.ts';
import type { LedgerRecord } from '../../lib/report/records.ts';
import { whatIfs } from '../../lib/report/what-if.ts';
import { evacuationOf } from './evacuate.ts';
import { ledgerOf, ledgerOptions } from './ledger-input.ts';
import { manage } from './migrate.ts';

export const report: Command = {
  name: 'report',
  arguments: ['[ID]'],
  summary:
    'Writes one HTML file with charts of a migration, running or ended; without ID the newest.',
  options: {
    output: {
      value: 'FILE',
      help: 'where to; "-" is standard output',
      otherwise: './godwit-ID.html',
    },
    evacuation: { help: 'of the evacuation of this host, open or the last' },
    ...ledgerOptions,
  },
  async run(input) {
    const { id, html } = await renderedOf(input);
    if (input.option('output') === '-') {
      process.stdout.write(html);
      return EXIT.completed;
    }
    const output = path.resolve(input.option('output') ?? `godwit-${id}.html`);
    await writeFile(output, html).catch((cause: Error) => {
      throw new GodwitError('bad-option', `--output cannot be written: ${cause.message}`, {
        cause,
      });
    });
    print(input, { file: output }, () => `${output}\n`);
    return EXIT.completed;
  },
};

/** @throws GodwitError bad-option, unknown-migration, … */
async function renderedOf(input: Input): Promise<{ readonly id: string; readonly html: string }> {
  if (!input.flag('evacuation')) {
    const records = await ledgerOf('report', input);
    return { id: idIn(records), html: renderReport(records, await whatIfs(records)) };
  }
  if (input.arguments.length > 0 || input.option('ledger') !== undefined)
    throw new GodwitError(
      'bad-option',
      '--evacuation is of the whole: it goes without ID and --ledger',
    );
  const view = await evacuationOf(manage.client(input));
  return { id: view.id, html: renderEvacuation(view) };
}

function idIn(records: readonly LedgerRecord[]): string {
  const start = records.find((record) => record.type === 'start');
  return start?.id.replace(/[^\w-]/g, '') ?? 'report';
}
