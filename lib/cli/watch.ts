import { setTimeout as sleep } from 'node:timers/promises';
import type { MigrationView } from '../migration/view.ts';
import { printable } from '../report/words.ts';
import type { ControlClient } from './client.ts';
import { listText } from './listing.ts';
import { LineFilter, progressLine } from './progress.ts';

/** Between two looks, ms. */
const LOOK_MS = 1000;
/** Cursor to the upper left, and nothing below it. */
const CLEAR = '\x1b[H\x1b[J';

/** How migrations are shown as time goes by. */
export type Show = (views: readonly MigrationView[]) => void;

/** Shows all migrations of a daemon again and again, until it goes away. Ctrl-C ends the program. */
export async function watchAll(client: ControlClient, show: Show): Promise<never> {
  process.once('SIGINT', () => process.exit(0));
  for (;;) {
    const { migrations } = await client.request<{ migrations: MigrationView[] }>(
      'GET',
      '/migrations',
    );
    show(migrations);
    await sleep(LOOK_MS);
  }
}

/** A screen of a terminal: what does not fit is told. */
export function showScreen(out: NodeJS.WriteStream): Show {
  return (views) => {
    const rows = Math.max(3, (out.rows || 24) - 1);
    const width = out.columns || 80;
    const lines = listText([...views].reverse())
      .trimEnd()
      .split('\n');
    const shown = lines.length <= rows ? lines : [...lines.slice(0, rows - 1), '…'];
    out.write(`${CLEAR}${shown.map((line) => line.slice(0, width)).join('\n')}\n`);
  };
}

/** A line for what is new, for logs and pipes; of what has ended nothing more is said. */
export function showLines(write: (line: string) => void): Show {
  const filters = new Map<string, LineFilter>();
  const over = new Set<string>();
  let looks = 0;
  return (views) => {
    looks++;
    for (const view of views) {
      const { id, guest, phase } = view;
      if (over.has(id)) continue;
      if (phase === 'ended') over.add(id);
      if (phase === 'ended' && looks === 1) continue; // before anybody watched
      const filter = filters.get(id) ?? new LineFilter();
      filters.set(id, filter);
      if (filter.wants(view)) write(`${id} ${printable(guest)} ${progressLine(view)}\n`);
    }
  };
}

/** The list as JSON, a line whenever it has changed. */
export function showJson(write: (line: string) => void): Show {
  let last = '';
  return (migrations) => {
    const line = `${JSON.stringify({ migrations })}\n`;
    if (line !== last) write(line);
    last = line;
  };
}
