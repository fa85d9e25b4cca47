import type { Input, Option } from '../../lib/cli/cli.ts';
import type { ControlClient } from '../../lib/cli/client.ts';
import { idOf } from '../../lib/cli/manage.ts';
import { GodwitError } from '../../lib/errors.ts';
import type { PastMigration } from '../../lib/report/history.ts';
import { parseLedger, readLedger } from '../../lib/report/ledger.ts';
import type { LedgerRecord } from '../../lib/report/records.ts';
import { manage } from './migrate.ts';

/** Options of the commands that read a ledger, whose argument is [ID]. */
export const ledgerOptions: Readonly<Record<string, Option>> = {
  ledger: { value: 'FILE', help: 'read this ledger instead of asking the daemon' },
  socket: manage.socket,
};

/**
 * The ledger in FILE, or of the migration ID; without either of the newest that this host has begun.
 * @throws GodwitError bad-option, unknown-migration, ledger-invalid, …
 */
export async function ledgerOf(command: string, input: Input): Promise<LedgerRecord[]> {
  const file = input.option('ledger');
  if (file !== undefined && input.arguments.length > 0)
    throw new GodwitError('bad-option', `${command} takes either ID or --ledger FILE`);
  if (file !== undefined) return readLedger(file);
  const client = manage.client(input);
  const id = input.arguments.length > 0 ? idOf(input) : await newestOf(client);
  return parseLedger(await client.text(`/migrations/${id}/ledger`), 'the ledger');
}

async function newestOf(client: ControlClient): Promise<string> {
  const answer = await client.request<{ history: PastMigration[] }>('GET', '/history?limit=1');
  const [newest] = answer.history;
  if (newest !== undefined) return newest.id;
  throw new GodwitError('unknown-migration', 'this host has begun no migration yet');
}
