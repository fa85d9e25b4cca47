import type { Input } from '../../lib/cli/cli.ts';
import type { ControlClient } from '../../lib/cli/client.ts';
import { inColour, LineFilter, progressBar, progressLine } from '../../lib/cli/progress.ts';
import { GodwitError } from '../../lib/errors.ts';
import { EXIT } from '../../lib/exit.ts';
import { isOver } from '../../lib/migration/standing.ts';
import type { MigrationView } from '../../lib/migration/view.ts';
import { foretoldText } from '../../lib/report/foretold-text.ts';
import { parseLedger } from '../../lib/report/ledger.ts';
import { summarize, summaryText } from '../../lib/report/summary.ts';

/** A clock that is looked at moves, ms. */
const TICK_MS = 1000;

/**
 * Shows a migration until its end, or until it waits for a destination that stays away, and returns
 * its last view.
 * @param interrupt what the first Ctrl-C does: it cancels it, and the second one leaves it to the daemon;
 *   or it leaves it at once
 */
export async function follow(
  input: Input,
  client: ControlClient,
  id: string,
  interrupt: 'cancels' | 'leaves' = 'cancels',
): Promise<MigrationView> {
  const onInterrupt = interruptHandler(client, id, interrupt === 'leaves');
  process.on('SIGINT', onInterrupt);
  const bar = !input.json && process.stdout.isTTY ? new Bar(process.stdout) : undefined;
  const show = input.json ? showJson : (bar?.show ?? plainLines());
  let begun = false;
  try {
    for await (const view of client.events(id)) {
      if (!begun && !input.json) showForetold(view);
      begun = true;
      show(view);
      if (isOver(view)) return view;
    }
  } finally {
    process.off('SIGINT', onInterrupt);
    bar?.end();
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
  { id, outcome, code, message, waitsFor, phase }: MigrationView,
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
  if (phase !== 'ended')
    process.stderr.write(`agent-send: waits for ${waitsFor}; the agent goes on by itself\n`);
  process.stdout.write(`report: agent-send report ${id}${where}\n`);
}

function interruptHandler(client: ControlClient, id: string, leave: boolean): () => void {
  let interrupts = leave ? 1 : 0;
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

/** The first line: what is to be expected. */
function showForetold({ foretold, limits }: MigrationView): void {
  if (foretold === undefined) return;
  const { basis } = foretold;
  const rests = basis === '' ? '' : `\n  (${basis})`;
  process.stdout.write(`forecast before the move: ${foretoldText(foretold, limits)}${rests}\n`);
}

function showJson(view: MigrationView): void {
  process.stdout.write(`${JSON.stringify(view)}\n`);
}

/** A line of a terminal that is written over: its clocks go on while nothing is told. */
class Bar {
  readonly #out: NodeJS.WriteStream & { readonly hasColors?: () => boolean };
  readonly #timer = setInterval(() => this.#draw(), TICK_MS).unref();
  #last: { readonly view: MigrationView; readonly at: number } | undefined;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
  }

  readonly show = (view: MigrationView): void => {
    this.#last = { view, at: performance.now() };
    this.#draw();
  };

  end(): void {
    clearInterval(this.#timer);
    if (this.#last !== undefined) this.#out.write('\n');
  }

  #draw(): void {
    if (this.#last === undefined) return;
    const { view, at } = this.#last;
    const sinceMs = isOver(view) ? 0 : performance.now() - at;
    const outageMs = view.outageMs === undefined ? undefined : view.outageMs + sinceMs;
    const now = { ...view, elapsedMs: view.elapsedMs + sinceMs, outageMs };
    // A terminal that does not know its size says 0; hasColors knows NO_COLOR and TERM.
    const width = (this.#out.columns || 80) - 1;
    const paint = this.#out.hasColors?.() ? inColour : undefined;
    this.#out.write(`\r\x1b[K${progressBar(now, width, paint)}`);
  }
}

function plainLines(): (view: MigrationView) => void {
  const filter = new LineFilter();
  return (view) => {
    if (filter.wants(view)) process.stdout.write(`${progressLine(view)}\n`);
  };
}
