import type { ServerResponse } from 'node:http';
import type { MigrationView } from '../migration/view.ts';
import type { AgentBackend } from './backend.ts';

/** Between two comments on an idle event stream, so that a dead client is noticed. */
const HEARTBEAT_MS = 15_000;

/** Between two looks at all migrations, ms. */
const LOOK_MS = 500;

/**
 * Server-sent events of a migration: `view` now and on every change, `end` with the last view. When
 * the server closes, the stream ends without one. A client that does not read costs what the
 * response buffers and one view: it gets the newest one when it reads again, and the end in any case.
 */
export function streamEvents(
  backend: AgentBackend,
  id: string,
  response: ServerResponse,
  closing: AbortSignal,
): void {
  backend.show(id); // an unknown id is refused before the stream begins
  response.writeHead(200, {
    'content-type': 'text/event-stream',
    'cache-control': 'no-store',
    connection: 'close',
  });
  /** Not written yet; a newer one takes its place. */
  let newest: MigrationView | undefined;
  const hasRoom = () => !response.writableEnded && !response.writableNeedDrain;
  const flush = () => {
    if (newest === undefined || !hasRoom()) return;
    const ended = newest.phase === 'ended';
    response.write(`event: ${ended ? 'end' : 'view'}\ndata: ${JSON.stringify(newest)}\n\n`);
    newest = undefined;
    if (ended) response.end();
  };
  const unwatch = backend.watch(id, (view) => {
    newest = view;
    flush();
  });
  response.on('drain', flush);
  const heartbeat = setInterval(() => hasRoom() && response.write(':\n\n'), HEARTBEAT_MS);
  const end = () => response.end();
  closing.addEventListener('abort', end);
  response.once('close', () => {
    closing.removeEventListener('abort', end);
    clearInterval(heartbeat);
    unwatch();
  });
}

/**
 * Server-sent events of all migrations: `migrations` at first, then `view` of each that has changed, at most
 * twice a second, `gone` of each that is not shown any more, and `still` now and then. A client that does
 * not read misses what lies between: it gets the newest views when it reads again.
 */
export function streamAll(
  backend: Pick<AgentBackend, 'list'>,
  response: ServerResponse,
  closing: AbortSignal,
): void {
  response.writeHead(200, {
    'content-type': 'text/event-stream',
    'cache-control': 'no-store',
    connection: 'close',
  });
  const tell = (event: string, json: string) =>
    response.write(`event: ${event}\ndata: ${json}\n\n`);
  const hasRoom = () => !response.writableEnded && !response.writableNeedDrain;
  /** What it has been told of each. */
  let told = new Map<string, string>();
  const views = () => new Map(backend.list().map((view) => [view.id, JSON.stringify(view)]));
  const look = () => {
    if (!hasRoom()) return;
    const now = views();
    for (const id of told.keys()) if (!now.has(id)) tell('gone', JSON.stringify({ id }));
    for (const [id, json] of now) if (told.get(id) !== json) tell('view', json);
    told = now;
  };
  told = views();
  tell('migrations', `{"migrations":[${[...told.values()].join()}]}`);
  const looking = setInterval(look, LOOK_MS);
  const heartbeat = setInterval(() => hasRoom() && tell('still', '{}'), HEARTBEAT_MS);
  const end = () => response.end();
  closing.addEventListener('abort', end);
  response.once('close', () => {
    closing.removeEventListener('abort', end);
    clearInterval(looking);
    clearInterval(heartbeat);
  });
}
