import type { ServerResponse } from 'node:http';
import type { AgentBackend } from './backend.ts';
import type { MigrationView } from './view.ts';

/** Between two comments on an idle event stream, so that a dead client is noticed. */
const HEARTBEAT_MS = 15_000;

/**
 * Server-sent events of a migration: `view` now and on every change, `end` with the last view. When
 * the server closes, the stream ends without one.
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
  const send = (view: MigrationView) => {
    if (response.writableEnded) return;
    const ended = view.phase === 'ended';
    // A client that does not read is not worth the memory; it gets the next view it has room for.
    if (!ended && response.writableNeedDrain) return;
    response.write(`event: ${ended ? 'end' : 'view'}\ndata: ${JSON.stringify(view)}\n\n`);
    if (ended) response.end();
  };
  const unwatch = backend.watch(id, send);
  const heartbeat = setInterval(() => response.write(':\n\n'), HEARTBEAT_MS);
  const end = () => response.end();
  closing.addEventListener('abort', end);
  response.once('close', () => {
    closing.removeEventListener('abort', end);
    clearInterval(heartbeat);
    unwatch();
  });
}
