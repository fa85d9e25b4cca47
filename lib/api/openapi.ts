import { SCHEMAS, type Schema } from './schemas.ts';

/** The API's own version: a change that a client has to know of makes it another path. */
export const API_PATH = '/v1';

/** What a route takes and answers. */
interface Operation {
  readonly summary: string;
  /** Name of the schema of its body. */
  readonly takes?: keyof typeof SCHEMAS;
  /** The body may be missing. */
  readonly mayBeEmpty?: true;
  readonly query?: Readonly<Record<string, string>>;
  readonly status: number;
  /** Name of the schema of its answer, or the media type of one that is not JSON. */
  readonly answers: keyof typeof SCHEMAS | `${string}/${string}`;
  /** Other answers than errors, by status. */
  readonly also?: Readonly<Record<number, keyof typeof SCHEMAS>>;
}

/** All that both agents answer, by method and path. */
export const OPERATIONS: Readonly<Record<string, Operation>> = {
  'GET /openapi.json': {
    summary: 'This description.',
    status: 200,
    answers: 'application/json',
  },
  'GET /healthz': {
    summary: 'Whether anything waits for a person: 503 while it does.',
    status: 200,
    answers: 'Health',
    also: { 503: 'Health' },
  },
  'GET /metrics': {
    summary: 'Metrics, Prometheus text format 0.0.4.',
    status: 200,
    answers: 'text/plain',
  },
  'GET /migrations': {
    summary: 'Migrations of the daemon, the oldest first (list).',
    status: 200,
    answers: 'Migrations',
  },
  'POST /migrations': {
    summary: 'Begins a migration (migrate).',
    takes: 'MigrationRequest',
    status: 201,
    answers: 'Migration',
  },
  'POST /checks': {
    summary: 'Says how such a migration would go, and begins none (check).',
    takes: 'MigrationRequest',
    status: 200,
    answers: 'Check',
  },
  'GET /evacuation': {
    summary: 'The evacuation that is open, or else the last; none: an empty object (evacuate).',
    status: 200,
    answers: 'Evacuations',
  },
  'POST /evacuation': {
    summary: 'Begins to move guests away; one evacuation is open at a time (evacuate HOST).',
    takes: 'EvacuationRequest',
    status: 201,
    answers: 'Evacuation',
  },
  'POST /evacuation/plan': {
    summary: 'Asks the destinations, and moves nothing (evacuate --dry-run).',
    takes: 'EvacuationRequest',
    status: 200,
    answers: 'EvacuationPlan',
  },
  'POST /evacuation/cancel': {
    summary: 'Begins nothing more; guests that are not given away stay (evacuate --cancel).',
    status: 202,
    answers: 'Evacuation',
  },
  'GET /migrations/ID': { summary: 'One migration (show).', status: 200, answers: 'Migration' },
  'PATCH /migrations/ID': {
    summary: 'Changes limits in flight; null takes one away (set).',
    takes: 'LimitsPatch',
    status: 200,
    answers: 'Migration',
  },
  'POST /migrations/ID/cancel': {
    summary: 'Ends a migration; the guest runs on at its source (cancel).',
    status: 202,
    answers: 'Migration',
  },
  'POST /migrations/ID/cutover': {
    summary: 'Stop-and-copy now, if the forecast allows it or by force (cutover).',
    takes: 'Cutover',
    mayBeEmpty: true,
    status: 202,
    answers: 'Migration',
  },
  'GET /migrations/ID/resolve': {
    summary: 'What a person could decide about an open handover (resolve).',
    status: 200,
    answers: 'Dilemma',
  },
  'POST /migrations/ID/resolve': {
    summary: 'Decides, when the other host is gone for good (resolve --keep-here, --give-up).',
    takes: 'Decision',
    status: 200,
    answers: 'Migration',
  },
  'GET /migrations/ID/events': {
    summary: 'Server-sent events: view whenever it changes, and end (attach, wait).',
    status: 200,
    answers: 'text/event-stream',
  },
  'GET /events': {
    summary:
      'Server-sent events of all: migrations, then view of each that changes, gone, still (the page).',
    status: 200,
    answers: 'text/event-stream',
  },
  'GET /migrations/ID/ledger': {
    summary: 'The ledger, a JSON object a line (report, replay).',
    status: 200,
    answers: 'application/x-ndjson',
  },
  'GET /history': {
    summary: 'What the ledgers tell of all migrations of this host, the newest first (list --all).',
    query: {
      since: 'begun then or later, ISO 8601',
      guest: 'of that guest',
      outcome: 'that ended so',
      limit: 'the newest ones, so many',
    },
    status: 200,
    answers: 'History',
  },
  'GET /guests': { summary: 'Guests of this host (guests).', status: 200, answers: 'Guests' },
  'GET /calibration': {
    summary: 'How good forecasts have been, by destination (calibration).',
    status: 200,
    answers: 'Calibration',
  },
  'GET /guests/NAME/profile': {
    summary: 'The newest profile of a guest (profile --last).',
    status: 200,
    answers: 'Profile',
  },
  'POST /guests/NAME/profile': {
    summary: 'Takes one: server-sent events progress, and profile or error (profile).',
    takes: 'ProfileRequest',
    status: 200,
    answers: 'text/event-stream',
  },
  'DELETE /guests/NAME/profile': {
    summary: 'Ends one that is being taken.',
    status: 202,
    answers: 'Nothing',
  },
};

/** A route as the server has it: `GET`, `/migrations/ID`. */
export interface RouteName {
  readonly method: string;
  readonly path: string;
}

/** OpenAPI 3.1 of the routes that an agent has. */
export function openApi(agent: string, version: string, routes: readonly RouteName[]): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const { method, path } of routes) {
    const at = `${API_PATH}${path.replace(/ID|NAME/, (name) => `{${name}}`)}`;
    paths[at] ??= {};
    paths[at][method.toLowerCase()] = operation(path, OPERATIONS[`${method} ${path}`]!);
  }
  return {
    openapi: '3.1.0',
    info: {
      title: `${agent} control socket`,
      version,
      description:
        'HTTP with JSON over a Unix socket. Times are in ms, sizes in bytes, rates per second. Within this path fields may be added; nothing is taken away or changed.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    paths,
    components: { schemas: SCHEMAS },
  };
}

function operation(path: string, { summary, takes, mayBeEmpty, query = {}, ...answer }: Operation) {
  const inPath = /ID|NAME/.exec(path)?.[0];
  const parameters = [
    ...(inPath === undefined ? [] : [parameter(inPath, 'path', DESCRIBED[inPath]!)]),
    ...Object.entries(query).map(([name, about]) => parameter(name, 'query', about)),
  ];
  const { status, answers, also = {} } = answer;
  const others = Object.entries(also).map(([code, name]) => [code, response(name)] as const);
  return {
    summary,
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(takes === undefined
      ? {}
      : { requestBody: { required: mayBeEmpty !== true, content: json(takes) } }),
    responses: {
      [status]: response(answers),
      ...Object.fromEntries(others),
      default: { description: 'what is wrong', content: json('Error') },
    },
  };
}

const DESCRIBED: Readonly<Record<string, string>> = {
  ID: 'id of a migration, or as much of its beginning as only it has',
  NAME: 'name of a guest',
};

function parameter(name: string, where: 'path' | 'query', description: string) {
  const schema: Schema = { type: 'string' };
  return { name, in: where, required: where === 'path', description, schema };
}

function response(answers: string) {
  const content = answers.includes('/') ? { [answers]: {} } : json(answers);
  return { description: answers.includes('/') ? answers : `a ${answers}`, content };
}

function json(name: string) {
  return { 'application/json': { schema: { $ref: `#/components/schemas/${name}` } } };
}
