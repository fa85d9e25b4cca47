import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AgentBackend, SenderBackend } from './backend.ts';
import { streamAll, streamEvents } from './event-stream.ts';
import { healthOf } from './health.ts';
import { RequestRefused, readJson, sendJson, sendLedger } from './http.ts';
import { metricsText } from './metrics.ts';
import { API_PATH, openApi } from './openapi.ts';
import { streamProfile } from './profile-stream.ts';
import {
  guestName,
  parseCutover,
  parseDecision,
  parseEvacuationRequest,
  parseHistoryQuery,
  parseLimitsPatch,
  parseMigrationRequest,
  parseProfileRequest,
} from './request.ts';

/** A request whose route is known. */
interface Call<Backend> {
  readonly backend: Backend;
  /** What stands for ID or NAME in the path; empty where the route has none. */
  readonly id: string;
  readonly query: URLSearchParams;
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

/** Those that are also answered where nothing can be done. */
type LookRoute = Omit<Route<never>, 'answer'> & {
  readonly answer: (call: Pick<Call<AgentBackend>, 'backend' | 'response'>) => void;
};

export const healthRoute: LookRoute = {
  method: 'GET',
  path: '/healthz',
  answer({ backend, response }) {
    const health = healthOf(backend.role, backend.list());
    sendJson(response, health.status === 'ok' ? 200 : 503, health);
  },
};

export const metricsRoute: LookRoute = {
  method: 'GET',
  path: '/metrics',
  answer({ backend, response }) {
    response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' });
    response.end(metricsText(backend.list(), backend.figures()));
  },
};

const AGENT_ROUTES: readonly Route<AgentBackend>[] = [
  route('GET', '/openapi.json', ({ backend, response }) => {
    const agent = isSender(backend) ? 'agent-send' : 'agent-recv';
    sendJson(response, 200, openApi(agent, backend.figures().version, routesOf(backend)));
  }),
  healthRoute,
  metricsRoute,
  route('GET', '/events', ({ backend, response, closing }) =>
    streamAll(backend, response, closing),
  ),
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
  route('POST', '/migrations/ID/resolve', async ({ backend, id, request, response }) => {
    const { choice, by } = parseDecision(await readJson(request));
    sendJson(response, 200, await backend.resolve(id, choice, by));
  }),
  route('GET', '/migrations/ID/events', ({ backend, id, response, closing }) =>
    streamEvents(backend, id, response, closing),
  ),
];

const SENDER_ROUTES: readonly Route<SenderBackend>[] = [
  route('POST', '/migrations', async ({ backend, request, response }) =>
    sendJson(response, 201, await backend.start(parseMigrationRequest(await readJson(request)))),
  ),
  route('POST', '/checks', async ({ backend, request, response }) =>
    sendJson(response, 200, await backend.check(parseMigrationRequest(await readJson(request)))),
  ),
  route('GET', '/evacuation', ({ backend, response }) =>
    sendJson(response, 200, { evacuation: backend.evacuations.view() }),
  ),
  route('POST', '/evacuation', async ({ backend, request, response }) => {
    const asked = parseEvacuationRequest(await readJson(request));
    sendJson(response, 201, await backend.evacuations.begin(asked));
  }),
  route('POST', '/evacuation/plan', async ({ backend, request, response }) => {
    const asked = parseEvacuationRequest(await readJson(request));
    sendJson(response, 200, await backend.evacuations.plan(asked));
  }),
  route('POST', '/evacuation/cancel', async ({ backend, response }) =>
    sendJson(response, 202, await backend.evacuations.cancel()),
  ),
  route('PATCH', '/migrations/ID', async ({ backend, id, request, response }) =>
    sendJson(response, 200, backend.change(id, parseLimitsPatch(await readJson(request)))),
  ),
  route('POST', '/migrations/ID/cutover', async ({ backend, id, request, response }) => {
    const { force } = parseCutover(await readJson(request, {}));
    sendJson(response, 202, backend.cutover(id, force));
  }),
  route('GET', '/migrations/ID/ledger', async ({ backend, id, response }) =>
    sendLedger(response, await backend.ledgerFile(id)),
  ),
  route('GET', '/history', async ({ backend, query, response }) =>
    sendJson(response, 200, { history: await backend.history(parseHistoryQuery(query)) }),
  ),
  route('GET', '/guests', async ({ backend, response }) =>
    sendJson(response, 200, { guests: await backend.guests() }),
  ),
  route('GET', '/calibration', ({ backend, response }) =>
    sendJson(response, 200, {
      records: backend.trackRecords(),
      foretold: backend.foretoldRecords(),
    }),
  ),
  route('POST', '/guests/NAME/profile', async ({ backend, id, request, response }) => {
    const asked = parseProfileRequest(await readJson(request));
    await streamProfile(backend, guestName(id), asked, response);
  }),
  route('GET', '/guests/NAME/profile', ({ backend, id, response }) =>
    sendJson(response, 200, backend.newestProfile(guestName(id))),
  ),
  route('DELETE', '/guests/NAME/profile', ({ backend, id, response }) => {
    backend.endProfile(guestName(id));
    sendJson(response, 202, {});
  }),
];

/**
 * Answers one request.
 * @param routes those that there are where it came in
 * @throws GodwitError, to be sent as the answer
 */
export async function answer(
  backend: AgentBackend,
  request: IncomingMessage,
  response: ServerResponse,
  closing: AbortSignal,
  routes = routesOf(backend),
): Promise<void> {
  const { path, id, query } = takeApart(request.url ?? '');
  const here = routes.filter((route) => route.path === path);
  if (here.length === 0) throw new RequestRefused(404, `there is nothing at ${request.url}`);
  const found = here.find(({ method }) => method === request.method);
  if (found === undefined) {
    const allowed = here.map(({ method }) => method).join(', ');
    response.setHeader('allow', allowed);
    throw new RequestRefused(405, `${request.url} takes ${allowed}, not ${request.method}`);
  }
  await found.answer({ backend: backend as never, id, query, request, response, closing });
}

/** `never`: which backend a route takes was settled by putting it into one of these lists. */
export function routesOf(backend: Pick<AgentBackend, 'role'>): readonly Route<never>[] {
  return [...AGENT_ROUTES, ...(backend.role === 'send' ? SENDER_ROUTES : [])];
}

/** `/v1/migrations/4f2a/cancel?x`, or without its version, is `/migrations/4f2a/cancel`. */
function unversioned(target: string): string {
  return target.startsWith(`${API_PATH}/`) ? target.slice(API_PATH.length) : target;
}

/** `/migrations/4f2a/cancel?x` as path `/migrations/ID/cancel` and id `4f2a`; `/guests/vm1/profile` alike. */
function takeApart(url: string): { path: string; id: string; query: URLSearchParams } {
  const [target = '', ...rest] = url.split('?');
  const query = new URLSearchParams(rest.join('?'));
  const path = unversioned(target);
  const match = /^\/(migrations|guests)\/([^/]+)(\/[^/]+)?$/.exec(path);
  if (match === null) return { path, id: '', query };
  const [, kind, id = '', more = ''] = match;
  return { path: `/${kind}/${kind === 'guests' ? 'NAME' : 'ID'}${more}`, id, query };
}

export function isSender(backend: AgentBackend): backend is SenderBackend {
  return backend.role === 'send';
}

function route<Backend>(
  method: string,
  path: string,
  answer: Route<Backend>['answer'],
): Route<Backend> {
  return { method, path, answer };
}
