import { ORDERS } from '../evacuation/view.ts';
import { HISTORY_OUTCOMES } from '../report/history.ts';
import { MAX_LANES } from '../wire/handshake.ts';
import { BANDWIDTH_RANGE, MAX_BY, MAX_XML, PARALLEL_RANGE, PROFILE_RANGE } from './request.ts';

/** JSON Schema (2020-12, as OpenAPI 3.1 has it), as far as it is needed here. */
export interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly enum?: readonly string[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly maxLength?: number;
  readonly format?: string;
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean | Schema;
  readonly anyOf?: readonly Schema[];
}

type Fields = Readonly<Record<string, Schema>>;

const said = (type: string, description?: string): Schema =>
  description === undefined ? { type } : { type, description };
const text = (description?: string) => said('string', description);
const number = (description?: string) => said('number', description);
const count = (description?: string): Schema => ({ ...said('integer', description), minimum: 0 });
const flag = (description?: string) => said('boolean', description);
const time: Schema = { type: 'string', format: 'date-time' };
const oneOf = (...values: readonly string[]): Schema => ({ type: 'string', enum: values });
const list = (items: Schema): Schema => ({ type: 'array', items });
const named = (name: string): Schema => ({ $ref: `#/components/schemas/${name}` });
const orNull = ({ type, ...rest }: Schema): Schema => ({ ...rest, type: [type as string, 'null'] });

/** An object of the API: readers skip fields that they do not know. */
function object(always: Fields, sometimes: Fields = {}): Schema {
  return {
    type: 'object',
    required: Object.keys(always),
    properties: { ...always, ...sometimes },
  };
}

/** A body that a client sends: unknown fields are refused. */
function body(always: Fields, sometimes: Fields = {}): Schema {
  return { ...object(always, sometimes), additionalProperties: false };
}

const OUTCOMES = ['completed', 'aborted', 'cancelled', 'failed', 'needs-resolve'];
const POLICY = oneOf('contract', 'xen', 'custom');
const PREFER = oneOf('workload', 'completion');
const BANDWIDTH: Schema = {
  ...number('bytes per second'),
  minimum: BANDWIDTH_RANGE.min,
  maximum: BANDWIDTH_RANGE.max,
};
const LANES: Schema = { ...count(), minimum: 1, maximum: MAX_LANES };
const BY: Schema = { ...text('who asks for it or decides'), maxLength: MAX_BY };

const LIMITS: Fields = {
  maxSuspendMs: number('--max-suspend-time'),
  timeoutMs: number('--timeout'),
  prefer: PREFER,
  pauseBelowMs: number('--pause-below'),
  abortAboveMs: number('--abort-above'),
  maxIters: count('--max-iters'),
  minRemaining: count('--min-remaining'),
  hold: text('cutover, a time (ISO 8601) or HH:MM-HH:MM'),
};

/** Pages, and what a forecast knows of no end is null. */
const SPAN = object({ low: orNull(number()), high: orNull(number()) });
const LIKELY = object({
  ...{ low: orNull(number()), high: orNull(number()) },
  expected: orNull(number('in the likeliest case')),
});
const JUDGED: Fields = {
  medianError: number('of what came'),
  ninthError: number('what nine of ten did not exceed'),
  inside: number('share inside the band'),
};

const VIEW: Fields = {
  id: text('up to 16 hexadecimal digits'),
  role: oneOf('send', 'receive'),
  guest: text(),
  peer: text('the other agent, host:port'),
  phase: oneOf('connecting', 'precopy', 'stop-and-copy', 'handover', 'recovery', 'ended'),
  startedAt: time,
  elapsedMs: number(),
  totalPages: count(),
  round: count('pass that is being sent; 0 before the first'),
  roundPages: count(),
  roundSent: count(),
  pagesSent: count('in all rounds'),
  wireBytes: count('of pages'),
  diskBytes: count('of disks, on the wire'),
  wireRate: number('bytes per second'),
  reconnects: count('how often a lost connection came back'),
  drainRate: number('guest bytes acknowledged per second'),
  dirtyRate: number('pages per second; -1 until known'),
  dirtyPages: number('what a suspension now would have to send; -1 while unknown'),
  policy: text(),
  encodings: object({
    ...{ zero: count(), raw: count(), same: count(), delta: count(), copy: count() },
  }),
};

const VIEW_SOMETIMES: Fields = {
  disks: object({ names: list(text()), copied: count('bytes'), total: count('bytes') }),
  outageMs: number('how long the connection has been lost'),
  estimate: named('Estimate'),
  verdict: named('Verdict'),
  hold: object(
    { until: text(), ready: flag(), ms: number() },
    { wirePerMinute: number('bytes on the wire') },
  ),
  limits: named('Limits'),
  bandwidth: number('cap, bytes per second'),
  suspendBandwidth: number('cap while it is suspended, bytes per second'),
  foretold: named('MoveForecast'),
  waitsFor: text('what keeps the agents from the end of it'),
  ownership: text('durable state of the right to run the guest'),
  guestState: text('what the guest does instead of running, as it follows "the guest"'),
  decision: text('what a person has decided'),
  outcome: oneOf(...OUTCOMES),
  code: text('stable, of lib/errors.ts'),
  message: text(),
  enoughMs: number('a suspension limit that would have been enough'),
  suspension: object(
    { agentMs: number() },
    {
      ...{ guestMs: number(), clock: text() },
      ...{ forecastMs: number(), limitMs: number() },
    },
  ),
};

const TERMS: Fields = {
  policy: POLICY,
  policyModule: text('absolute path, with policy custom'),
  limits: body({}, LIMITS),
  suspendBandwidth: BANDWIDTH,
  lanes: LANES,
  compression: oneOf('auto', 'off'),
  verify: flag(),
  persistent: flag('a domain of libvirt is defined at its destination'),
  undefineSource: flag('a domain of libvirt is not defined at its source any more'),
  copyStorage: {
    ...oneOf('all', 'inc'),
    description:
      'disks of a domain of libvirt go with it, whole or without what is below their images',
  },
};

const REFUSED = list(object({ destination: text(), code: text(), message: text() }));
const LEFT_OUT = list(object({ name: text(), why: text() }));
const DESTINATIONS = {
  ...list(text('host:port')),
  description: 'in the order in which they are asked',
};
const PARALLEL: Schema = {
  ...count('guests that are moved at once'),
  minimum: PARALLEL_RANGE.min,
  maximum: PARALLEL_RANGE.max,
};
const ORDER = oneOf(...ORDERS);
const RETRY = number('the longest suspension limit that a guest is tried again with');

/** Of an evacuation as it is asked for, besides what it has to have. */
const EVACUATION_SOMETIMES: Fields = {
  guests: { ...list(text()), description: 'all, when there are none' },
  bandwidth: { ...BANDWIDTH, description: 'of all together, bytes per second' },
  retryUpToMs: RETRY,
  by: BY,
};

const LEAVING = object(
  {
    ...{ name: text(), tries: count('moves that were begun'), refused: REFUSED },
    troubles: count('failures that may have been of the moment'),
    detours: count('those of them that were of a destination'),
    raisedMs: list(number('suspension limits that it was tried again with')),
  },
  {
    memoryBytes: count(),
    migration: text('its last one'),
    destination: text(),
    waitsFor: text('why it is not on its way'),
    end: object(
      { at: time, outcome: oneOf(...OUTCOMES) },
      {
        ...{ code: text(), message: text(), ms: number(), wireBytes: count() },
        ...{ suspensionMs: number(), limitMs: number() },
      },
    ),
  },
);

/** What `components.schemas` has, by name. Times are ms, sizes bytes, rates per second. */
export const SCHEMAS: Fields = {
  Error: object({ error: object({ code: text('stable, of lib/errors.ts'), message: text() }) }),
  Health: object({
    status: oneOf('ok', 'needs-resolve'),
    role: oneOf('send', 'receive'),
    needsResolve: list(object({ id: text(), guest: text(), message: text() })),
  }),
  Estimate: object({
    ...{ low: orNull(number()), expected: orNull(number()), high: orNull(number()) },
    fixed: orNull(number('what does not depend on the remaining pages')),
    after: orNull(number('what follows when the guest is given away')),
    reserve: orNull(number('what the deadline keeps free of the limit')),
  }),
  Verdict: object(
    { action: oneOf('continue', 'hold', 'stop-and-copy', 'abort'), reason: text() },
    { enoughMs: number() },
  ),
  Limits: object(
    { prefer: PREFER, maxIters: LIMITS.maxIters!, minRemaining: LIMITS.minRemaining! },
    LIMITS,
  ),
  Migration: object(VIEW, VIEW_SOMETIMES),
  Migrations: object({ migrations: list(named('Migration')) }),
  MigrationRequest: body(
    { guest: text(), host: text(), port: { ...count(), minimum: 1, maximum: 65535 } },
    {
      ...{ ...TERMS, bandwidth: BANDWIDTH, by: BY },
      destXml: { ...text('of a domain of libvirt at its destination'), maxLength: MAX_XML },
      destName: text('of a domain of libvirt at its destination'),
    },
  ),
  EvacuationRequest: body(
    { destinations: DESTINATIONS, parallel: PARALLEL },
    { ...EVACUATION_SOMETIMES, order: ORDER, move: body({}, TERMS) },
  ),
  Evacuation: object(
    {
      ...{ id: text(), source: text('name of the host that is left'), startedAt: time },
      ...{ destinations: DESTINATIONS, parallel: PARALLEL, order: ORDER, move: object({}, TERMS) },
      cancelled: flag('nothing more is begun'),
      leaving: list(LEAVING),
      leftOut: LEFT_OUT,
      moving: list(text('name of a guest')),
    },
    { ...EVACUATION_SOMETIMES, endedAt: time, outcome: oneOf(...OUTCOMES) },
  ),
  Evacuations: object({}, { evacuation: named('Evacuation') }),
  EvacuationPlan: object({
    leaving: list(
      object(
        { name: text(), refused: REFUSED },
        { memoryBytes: count(), destination: text(), why: text('what keeps it here') },
      ),
    ),
    leftOut: LEFT_OUT,
  }),
  LimitsPatch: body(
    {},
    {
      ...LIMITS,
      ...{ maxSuspendMs: orNull(LIMITS.maxSuspendMs!), timeoutMs: orNull(LIMITS.timeoutMs!) },
      pauseBelowMs: orNull(LIMITS.pauseBelowMs!),
      abortAboveMs: orNull(LIMITS.abortAboveMs!),
      hold: orNull(LIMITS.hold!),
      bandwidth: orNull(BANDWIDTH),
      suspendBandwidth: orNull(BANDWIDTH),
    },
  ),
  Cutover: body({}, { force: flag('whatever the forecast') }),
  Decision: body({ choice: oneOf('keep-here', 'give-up'), by: BY }),
  Dilemma: object(
    {
      proves: text('what is certain about the guest'),
      choices: {
        type: 'object',
        additionalProperties: object({ does: text(), risks: text() }),
      },
    },
    {
      fenced: object({
        fence: text('of the other host, as it was confirmed'),
        answer: oneOf('keep-here', 'give-up'),
      }),
    },
  ),
  Check: object(
    {
      ...{ guest: text(), destination: text(), policy: POLICY, limits: named('Limits') },
      findings: list(
        object({
          ...{ about: text(), verdict: oneOf('ok', 'no', 'unknown'), code: text(), text: text() },
          side: oneOf('source', 'destination'),
        }),
      ),
      expected: oneOf('refused', 'yes', 'perhaps', 'no', 'unknown'),
    },
    {
      way: { type: 'object', description: 'what was measured of the link' },
      forecast: named('Forecast'),
    },
  ),
  MoveForecast: object(
    {
      ...{ by: oneOf('check', 'migrate'), verdict: oneOf('yes', 'perhaps', 'no', 'unknown'), time },
      ...{ reason: text(), basis: text('what it rests on') },
      unlearned: object({}, { totalMs: orNull(number()), suspensionMs: orNull(number()) }),
    },
    { totalMs: LIKELY, suspensionMs: LIKELY, rounds: SPAN, enoughMs: number() },
  ),
  Forecast: object(
    {
      verdict: oneOf('yes', 'perhaps', 'no', 'unknown'),
      ...{ reason: text(), passMs: number(), suspensionMs: LIKELY },
    },
    { totalMs: LIKELY, rounds: SPAN, enoughMs: number() },
  ),
  Guests: object({
    guests: list({
      anyOf: [
        object(
          { name: text(), hypervisor: text(), state: text(), memoryBytes: count() },
          { deviceStateBytes: count() },
        ),
        object({ name: text(), hypervisor: text(), trouble: text() }),
      ],
    }),
  }),
  History: object({
    history: list(
      object(
        {
          ...{ id: text(), guest: text(), time, destination: text() },
          outcome: oneOf(...HISTORY_OUTCOMES),
        },
        {
          ...{ source: text('name of the host'), by: text(), code: text(), message: text() },
          ...{ ms: number(), suspensionMs: number(), limitMs: number(), wireBytes: count() },
        },
      ),
    ),
  }),
  Calibration: object({
    records: list(
      object({ hypervisor: text(), peer: text(), moved: count(), rolledBack: count() }, JUDGED),
    ),
    foretold: list(
      object({
        ...{ hypervisor: text(), peer: text(), moved: count(), misjudged: count() },
        ...{ total: object({}, JUDGED), suspension: object({}, JUDGED) },
      }),
    ),
  }),
  ProfileRequest: body(
    {
      ms: { ...number(), minimum: PROFILE_RANGE.min, maximum: PROFILE_RANGE.max },
    },
    {
      rehearsal: {
        ...body({}, { bandwidth: BANDWIDTH }),
        description: 'By a move that goes nowhere: QEMU 8.1 and later.',
      },
    },
  ),
  Profile: object(
    {
      ...{ guest: text(), time, ms: number(), totalPages: count() },
      workingSet: list(object({ windowMs: number(), pages: number(), high: number() })),
    },
    {
      zeroShare: number(),
      compressedShare: number(),
      dirtyRate: number(),
      method: text(),
      pace: object({ low: number(), high: number() }),
    },
  ),
  Nothing: object({}),
};
