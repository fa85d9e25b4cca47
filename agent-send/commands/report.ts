import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type Command, print } from '../../lib/control/cli.ts';
import { idOf } from '../../lib/control/manage.ts';
import { EXIT } from '../../lib/control/view.ts';
import { GodwitError } from '../../lib/errors.ts';
import { renderReport } from '../../lib/report/html.ts';
import { parseLedger, readLedger } from '../../lib/report/ledger.ts';
import type { LedgerRecord } from '../../lib/report/records.ts';
import { manage } from './migrate.ts';

export const report: Command = {
  name: 'report',
  arguments: ['[ID]'],
  summary: 'Writes one HTML file with charts of a migration, running or ended.',
  options: {
    output: { value: 'FILE', help: 'where to', otherwise: './godwit-ID.html' },
    ledger: { value: 'FILE', help: 'read this ledger instead of asking the daemon' },
    socket: manage.socket,
  },
  async run(input) {
    const file = input.option('ledger');
    if ((file === undefined) === (input.arguments.length === 0))
      throw new GodwitError('bad-option', 'report takes either ID or --ledger FILE');
    const records =
      file === undefined
        ? parseLedger(
            await manage.client(input).text(`/migrations/${idOf(input)}/ledger`),
            'the ledger',
          )
        : await readLedger(file);
    const output = path.resolve(input.option('output') ?? `godwit-${idIn(records)}.html`);
    await writeFile(output, renderReport(records)).catch((cause: Error) => {
      throw new GodwitError('bad-option', `--output cannot be written: ${cause.message}`, {
        cause,
      });
    });
    print(input, { file: output }, () => `${output}\n`);
    return EXIT.completed;
  },
};

function idIn(records: readonly LedgerRecord[]): string {
  const start = records.find((record) => record.type === 'start');
  return start?.id.replace(/[^\w-]/g, '') ?? 'report';
}
