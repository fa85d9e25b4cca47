import type { Input } from '../../lib/control/cli.ts';
import type { ControlClient } from '../../lib/control/client.ts';
import { LineFilter, progressBar, progressLine } from '../../lib/control/progress.ts';
import { EXIT, type MigrationView } from '../../lib/control/view.ts';
import { GodwitError } from '../../lib/errors.ts';
import { parseLedger } from '../../lib/report/ledger.ts';
import { summarize, summaryText } from '../../lib/report/summary.ts';

/**
 * Shows a migration until its end, or until it waits for a destination that stays away, and returns
 * its last view. The first Ctrl-C cancels it, the second one leaves it to the daemon.
 */
export async function follow(
  input: Input,
  client: ControlClient,
  id: string,
): Promise<MigrationView> {
  const onInterrupt = interruptHandler(client, id);
  process.on('SIGINT', onInterrupt);
  const show = input.json ? showJson : process.stdout.isTTY ? showBar : plainLines();
  try {
    for await (const view of client.events(id)) {
      show(view);
      if (view.phase === 'ended' || view.outcome === 'needs-resolve') return view;
    }
  } finally {
    process.off('SIGINT', onInterrupt);
  }
  throw new GodwitError(
    'daemon-unreachable',
    `the daemon went away in the middle of migration ${id}; its ledger tells how far it came`,
  );
}

/**
 * Prints what the ledger says of a migration that has ended. With --json the last view has said it
 * all. A ledger that cannot be had changes nothing about how the migration ended.
 */
export async function conclude(
  input: Input,
  client: ControlClient,
  { id, outcome, code, message, waitsFor }: MigrationView,
): Promise<void> {
  if (input.json) return;
  const socket = input.option('socket');
  const where = socket === undefined ? '' : ` --socket ${socket}`;
  if (outcome === 'needs-resolve') {
    const hint = `The agent goes on asking. If the other host is gone for good: agent-send resolve ${id}${where}`;
    process.stderr.write(`agent-send: waits for ${waitsFor}\n${hint}\n`);
    return;
  }
  try {
    const records = parseLedger(await client.text(`/migrations/${id}/ledger`), 'the ledger');
    process.stdout.write(`\n${summaryText(summarize(records))}\n`);
  } catch (error) {
    const result = code === undefined ? `${outcome}` : `${outcome}: ${message} (${code})`;
    process.stderr.write(`${result}\nno summary: ${(error as Error).message}\n`);
  }
  process.stdout.write(`report: agent-send report ${id}${where}\n`);
}

function interruptHandler(client: ControlClient, id: string): () => void {
  let interrupts = 0;
  return () => {
    interrupts++;
    if (interrupts > 1) {
      process.stderr.write(`\nmigration ${id} goes on; look at it with: agent-send show ${id}\n`);
      process.exit(EXIT.failed);
    }
    process.stderr.write('\ncancelling; Ctrl-C again leaves it to the daemon\n');
    client.request('POST', `/migrations/${id}/cancel`).catch((error: Error) => {
      process.stderr.write(`agent-send: ${error.message}\n`);
    });
  };
}

function showJson(view: MigrationView): void {
  process.stdout.write(`${JSON.stringify(view)}\n`);
}

function showBar(view: MigrationView): void {
  // A terminal that does not know its size says 0.
  const text = progressBar(view, (process.stdout.columns || 80) - 1);
  process.stdout.write(`\r\x1b[K${text}${view.phase === 'ended' ? '\n' : ''}`);
}

function plainLines(): (view: MigrationView) => void {
  const filter = new LineFilter();
  return (view) => {
    if (filter.wants(view)) process.stdout.write(`${progressLine(view)}\n`);
  };
}
