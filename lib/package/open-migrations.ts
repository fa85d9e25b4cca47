import fs from 'node:fs';
import path from 'node:path';
import { defaultPaths } from '../daemon/paths.ts';
import { openEntries } from '../ownership/journal/journal.ts';
import { decodeRecords } from '../ownership/journal/record.ts';

/*
 * Prints what the journals of this host have open, a line each: before the package is removed, with
 * all that could read them.
 */
for (const agent of ['agent-send', 'agent-recv'] as const) {
  const journal = path.join(defaultPaths(agent).stateDir, 'journal');
  if (!fs.existsSync(journal)) continue;
  const { records } = decodeRecords(fs.readFileSync(journal));
  for (const { migration, guest, state } of openEntries(records).values())
    console.log(`${agent}: migration ${migration} of guest ${guest} is ${state}`);
}
