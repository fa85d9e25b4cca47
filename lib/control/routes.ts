import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AgentBackend, SenderBackend } from './backend.ts';
import { streamEvents } from './event-stream.ts';
import { RequestRefused, readJson, sendJson, sendLedger } from './http.ts';
import { metricsText } from './metrics.ts';
import { parseChoice, parseLimitsPatch, parseMigrationRequest } from './request.ts';

/** A request whose route is known. */
interface Call<Backend> {
  readonly backend: Backend;
  /** What stands for ID in the path; empty where the route has none. */
  readonly id: string;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Aborts when the server closes: for answers without an end of their own. */
  readonly closing: AbortSignal;
}

interface Route<Backend> {
  readonly method: string;
  readonly path: string;
  readonly answer: (call: Call<Backend>) => void | Promise<void>;
}

const AGENT_ROUTES: readonly Route<AgentBackend>[] = [
  route('GET', '/healthz', ({ backend, response }) =>
    sendJson(response, 200, { status: 'ok', role: backend.role }),
  ),
  route('GET', '/metrics', ({ backend, response }) => {
    response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' });
    response.end(metricsText(backend.list(), backend.totals()));
  }),
  route('GET', '/migrations', ({ backend, response }) =>
    sendJson(response, 200, { migrations: backend.list() }),
  ),
  route('GET', '/migrations/ID', ({ backend, id, response }) =>
    sendJson(response, 200, backend.show(id)),
  ),
  route('POST', '/migrations/ID/cancel', ({ backend, id, response }) =>
    sendJson(response, 202, backend.cancel(id)),
  ),
  route('GET', '/migrations/ID/resolve', ({ backend, id, response }) =>
    sendJson(response, 200, backend.dilemma(id)),
  ),
  route('POST', '/migrations/ID/resolve', async ({ backend, id, request, response }) =>
    sendJson(response, 200, await backend.resolve(id, parseChoice(await readJson(request)))),
  ),
  route('GET', '/migrations/ID/events', ({ backend, id, response, closing }) =>
    streamEvents(backend, id, response, closing),
  ),
];

const SENDER_ROUTES: readonly Route<SenderBackend>[] = [
  route('POST', '/migrations', async ({ backend, request, response }) =>
    sendJson(response, 201, await backend.start(parseMigrationRequest(await readJson(request)))),
  ),
  route('PATCH', '/migrations/ID', async ({ backend, id, request, response }) =>
    sendJson(response, 200, backend.change(id, parseLimitsPatch(await readJson(request)))),
  ),
  route('POST', '/migrations/ID/cutover', ({ backend, id, response }) =>
    sendJson(response, 202, backend.cutover(id)),
  ),
  route('GET', '/migrations/ID/ledger', ({ backend, id, response }) =>
    sendLedger(response, backend.ledgerFile(id)),
  ),
  route('GET', '/guests', async ({ backend, response }) =>
    sendJson(response, 200, { guests: await backend.guests() }),
  ),
];

/** Answers one request. @throws GodwitError, to be sent as the answer */
export async function answer(
  backend: AgentBackend,
  request: IncomingMessage,
  response: ServerResponse,
  closing: AbortSignal,
): Promise<void> {
  const { path, id } = takeApart(request.url ?? '');
  // `never`: which backend a route takes was settled by putting it into this list.
  const routes: Route<never>[] = [...AGENT_ROUTES, ...(isSender(backend) ? SENDER_ROUTES : [])];
  const here = routes.filter((route) => route.path === path);
  if (here.length === 0) throw new RequestRefused(404, `there is nothing at ${request.url}`);
  const found = here.find(({ method }) => method === request.method);
  if (found === undefined) {
    const allowed = here.map(({ method }) => method).join(', ');
    response.setHeader('allow', allowed);
    throw new RequestRefused(405, `${request.url} takes ${allowed}, not ${request.method}`);
  }
  await found.answer({ backend: backend as never, id, request, response, closing });
}

/** `/migrations/4f2a/cancel?x` as path `/migrations/ID/cancel` and id `4f2a`. */
function takeApart(url: string): { path: string; id: string } {
  const [target = ''] = url.split('?');
  const match = /^\/migrations\/([^/]+)(\/[^/]+)?$/.exec(target);
  if (match === null) return { path: target, id: '' };
  return { path: `/migrations/ID${match[2] ?? ''}`, id: match[1]! };
}

function isSender(backend: AgentBackend): backend is SenderBackend {
  return backend.role === 'send';
}

function route<Backend>(
  method: string,
  path: string,
  answer: Route<Backend>['answer'],
): Route<Backend> {
  return { method, path, answer };
}
