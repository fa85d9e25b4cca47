import { parentPort, workerData } from 'node:worker_threads';
import { asGodwitError } from '../errors.ts';
import { renderReport } from '../report/html.ts';
import { readLedger } from '../report/ledger.ts';
import { whatIfs } from '../report/what-if.ts';
import type { Rendered } from './reports.ts';

parentPort!.postMessage(await render(workerData as string));

async function render(file: string): Promise<Rendered> {
  try {
    const records = await readLedger(file);
    return { html: renderReport(records, await whatIfs(records)) };
  } catch (thrown) {
    const { code, message } = asGodwitError(thrown);
    return { code, message };
  }
}
