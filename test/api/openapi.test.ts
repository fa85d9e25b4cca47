import fs from 'node:fs';
import http from 'node:http';
import { afterEach, describe, expect, test } from 'vitest';
import { OPERATIONS } from '../../lib/api/openapi.ts';
import {
  parseEvacuationRequest,
  parseLimitsPatch,
  parseMigrationRequest,
} from '../../lib/api/request.ts';
import { routesOf } from '../../lib/api/routes.ts';
import { SCHEMAS, type Schema } from '../../lib/api/schemas.ts';
import { ControlServer } from '../../lib/api/server.ts';
import { A_PAST_MIGRATION, A_PROFILE, aView, ended, FakeBackend } from './fake-backend.ts';

/** The description of the API, against what the routes are and answer. */

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const VIEWS = {
  full: aView({
    ...{ outageMs: 1, waitsFor: 'x', ownership: 'precopy', guestState: 'x', decision: 'x' },
    ...{ outcome: 'failed', code: 'x', message: 'x', enoughMs: 1, bandwidth: 1 },
    hold: { until: 'x', ready: true, ms: 1, wirePerMinute: 2 },
    suspension: { agentMs: 1, guestMs: 1, clock: 'monotonic', forecastMs: 1, limitMs: 1 },
  }),
  bare: ended('completed', { estimate: undefined, verdict: undefined, limits: undefined }),
};

async function serve(role: 'send' | 'receive', view = VIEWS.full): Promise<FakeBackend> {
  const backend = new FakeBackend({ ...view, role }, role);
  cleanups.push(() => backend.remove());
  const server = await ControlServer.open(backend.socket, backend);
  cleanups.push(() => server.close());
  return backend;
}

async function get(agent: FakeBackend, path: string, method = 'GET', body?: object) {
  const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>();
  http
    .request({ socketPath: agent.socket, path, method, agent: false }, resolve)
    .on('error', reject)
    .end(body && JSON.stringify(body));
  const response = await promise;
  let text = '';
  for await (const piece of response.setEncoding('utf8')) text += piece;
  const type = response.headers['content-type'] ?? '';
  return {
    status: response.statusCode,
    type,
    json: type.includes('json') && !type.includes('nd') ? JSON.parse(text) : undefined,
  };
}

/** What is wrong with a value: a reader of its own, for the few words that the schemas use. */
function faults(value: unknown, schema: Schema, at = '$'): string[] {
  if (schema.$ref !== undefined) return faults(value, SCHEMAS[schema.$ref.split('/').at(-1)!]!, at);
  if (schema.anyOf !== undefined) {
    const tries = schema.anyOf.map((one) => faults(value, one, at));
    return tries.some((found) => found.length === 0) ? [] : tries.flat();
  }
  const types = [schema.type ?? []].flat();
  const is = value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value;
  const fits = types.some((type) => type === is || (type === 'integer' && Number.isInteger(value)));
  if (!fits) return [`${at} is ${is}, not ${types}`];
  if (schema.enum && !schema.enum.includes(value as string)) return [`${at} is "${value}"`];
  if (is === 'array')
    return (value as unknown[]).flatMap((one, i) => faults(one, schema.items!, `${at}[${i}]`));
  if (is !== 'object') return [];
  const fields = value as Record<string, unknown>;
  const missing = (schema.required ?? []).filter((name) => !(name in fields));
  return [
    ...missing.map((name) => `${at}.${name} is missing`),
    ...Object.entries(fields).flatMap(([name, one]) => {
      const more = schema.additionalProperties;
      const known = schema.properties?.[name] ?? (typeof more === 'object' ? more : undefined);
      if (known !== undefined) return faults(one, known, `${at}.${name}`);
      return schema.properties === undefined ? [] : [`${at}.${name} is not described`];
    }),
  ];
}

describe.each(['send', 'receive'] as const)('of an agent to %s', (role) => {
  test('describes each route that there is, and no other', async () => {
    const { json } = await get(await serve(role), '/openapi.json');
    expect(json.openapi).toBe('3.1.0');
    const described = Object.entries(json.paths as Record<string, object>).flatMap(
      ([path, methods]) => Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const routes = routesOf({ role }).map(
      ({ method, path }) => `${method} /v1${path.replace('ID', '{ID}').replace('NAME', '{NAME}')}`,
    );
    expect(described.sort()).toEqual(routes.sort());
  });

  test('each of its references leads somewhere', async () => {
    const { json } = await get(await serve(role), '/v1/openapi.json');
    const references = JSON.stringify(json).matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g);
    for (const [, name] of references) expect(Object.keys(SCHEMAS)).toContain(name);
  });
});

test('nothing is described that no agent has', () => {
  const routes = [...routesOf({ role: 'send' }), ...routesOf({ role: 'receive' })];
  const names = new Set(routes.map(({ method, path }) => `${method} ${path}`));
  expect(Object.keys(OPERATIONS).sort()).toEqual([...names].sort());
});

test('every answer is as it is described, at both paths', async () => {
  const bodies: Readonly<Record<string, object>> = {
    'POST /migrations': { guest: 'vm1', host: 'hostb', port: 7070 },
    'POST /checks': { guest: 'vm1', host: 'hostb', port: 7070 },
    'POST /evacuation': { destinations: ['hostb:7070'], parallel: 2 },
    'POST /evacuation/plan': { destinations: ['hostb:7070'], parallel: 2 },
    'PATCH /migrations/ID': { timeoutMs: null },
    'POST /migrations/ID/resolve': { choice: 'keep-here', by: 'root' },
  };
  const { id } = VIEWS.full;
  let looked = 0;
  for (const view of Object.values(VIEWS))
    for (const { method, path } of routesOf({ role: 'send' })) {
      const { status, answers, also = {} } = OPERATIONS[`${method} ${path}`]!;
      if (answers === 'text/event-stream' || path.endsWith('/cancel')) continue;
      const agent = await serve('send', view);
      fs.writeFileSync(agent.ledgerFile(id), '{}\n');
      const at = path.replace('ID', id).replace('NAME', 'vm1');
      for (const prefix of ['', '/v1']) {
        const answer = await get(agent, `${prefix}${at}`, method, bodies[`${method} ${path}`]);
        expect([method, at, [status, ...Object.keys(also).map(Number)]]).toEqual([
          ...[method, at],
          expect.arrayContaining([answer.status]),
        ]);
        if (answers.includes('/')) expect(answer.type).toContain(answers);
        else expect([method, at, faults(answer.json, SCHEMAS[answers]!)]).toEqual([method, at, []]);
        looked++;
      }
    }
  expect(looked).toBeGreaterThan(40);
});

test('what is wrong is said as it is described, and what is not there is 404', async () => {
  const agent = await serve('send');
  for (const path of [
    '/v1',
    '/v1/',
    '/v1/v1/migrations',
    '/v2/migrations',
    '/v1/migrations/ffff',
    '/v1/history/x',
  ]) {
    const { status, json } = await get(agent, path);
    expect([path, status, faults(json, SCHEMAS.Error!)]).toEqual([path, 404, []]);
  }
  for (const query of ['since=monday', 'outcome=lost', 'limit=0', 'who=me'])
    expect((await get(agent, `/v1/history?${query}`)).status).toBe(400);
  expect((await get(agent, '/v1/history?since=2026-01-01&outcome=failed&limit=3')).status).toBe(
    200,
  );
});

test('the bodies that it describes are those that are taken', () => {
  const allowed = (parse: () => unknown) => {
    try {
      parse();
    } catch (error) {
      const [, names = ''] = /allowed are (.*)$/.exec((error as Error).message) ?? [];
      return names.split(', ').sort();
    }
    return [];
  };
  const described = (name: string) => Object.keys(SCHEMAS[name]!.properties!).sort();
  const request = { guest: 'vm1', host: 'h', port: 1, policy: 'contract' };
  expect(allowed(() => parseMigrationRequest({ nothing: 1 }))).toEqual(
    described('MigrationRequest'),
  );
  expect(allowed(() => parseEvacuationRequest({ nothing: 1 }))).toEqual(
    described('EvacuationRequest'),
  );
  expect(allowed(() => parseLimitsPatch({ nothing: 1 }))).toEqual(described('LimitsPatch'));
  expect(allowed(() => parseMigrationRequest({ ...request, limits: { nothing: 1 } }))).toEqual(
    described('Limits'),
  );
});

test('the examples of the tests are whole', () => {
  expect(faults(A_PROFILE, SCHEMAS.Profile!)).toEqual([]);
  expect(
    faults(JSON.parse(JSON.stringify({ history: [A_PAST_MIGRATION] })), SCHEMAS.History!),
  ).toEqual([]);
  expect(faults({ ...A_PROFILE, ms: 'long', more: 1 }, SCHEMAS.Profile!)).toEqual([
    '$.ms is string, not number',
    '$.more is not described',
  ]);
});
