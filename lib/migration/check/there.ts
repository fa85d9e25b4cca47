import { randomBytes } from 'node:crypto';
import { asGodwitError, type ErrorCode, type GodwitError } from '../../errors.ts';
import { type Finding, lookAt, notKnown } from '../../finding.ts';
import { printable } from '../../report/words.ts';
import { formatDuration, formatRate, formatSize } from '../../units.ts';
import { formatAddress } from '../../wire/address.ts';
import { ask, UNSERVED } from '../../wire/ask.ts';
import { connectTo } from '../../wire/connect.ts';
import type { Connection } from '../../wire/connection.ts';
import type { Security } from '../../wire/credentials.ts';
import { dialControl } from '../../wire/dial.ts';
import { requireCheckAnswer } from '../../wire/handshake.ts';
import type { CheckAnswer, Welcome } from '../../wire/messages.ts';
import { CHECK_FEATURE, DOMAIN_FEATURE } from '../../wire/terms.ts';
import type { MigrationRequest } from '../view.ts';
import { type MeasuredWay, measureWay } from './ballast.ts';
import type { KnownGuest } from './here.ts';

/** A destination looks at hypervisors and disks before it answers; it ends a check after as long, ms. */
const ANSWER_LIMIT_MS = 15_000;
/** Characters of a domain's XML that a check has room for: WIRE.md, Check. */
const MAX_DOMAIN = 48 << 10;

export interface ThereContext {
  readonly security: Security;
  /** Data connections, when the request does not say. */
  readonly lanes: number;
  readonly peerTimeoutMs: number;
  readonly connectTimeoutMs: number;
}

export interface There {
  readonly findings: readonly Finding[];
  readonly answer: CheckAnswer | undefined;
  readonly way: (MeasuredWay & { readonly lanes: number }) | undefined;
  readonly compresses: boolean;
}

/**
 * What the destination says about the guest, and how fast the way there is.
 * @param wanted `answer`: nothing is measured
 */
export async function lookThere(
  request: MigrationRequest,
  context: ThereContext,
  guest: KnownGuest | undefined,
  wanted: 'answer' | 'way' = 'way',
): Promise<There> {
  const { host, port, lanes = context.lanes } = request;
  const nothing = { answer: undefined, way: undefined, compresses: false };
  try {
    const { control, welcome } = await dialControl({ ...context, host, port, lanes });
    try {
      const reached = reachedFindings(request, context, welcome);
      const compresses = welcome.features.includes('zstd') && request.compression === 'auto';
      const more = await askThere(request, context, guest, control, welcome, wanted);
      return { ...nothing, compresses, ...more, findings: [...reached, ...more.findings] };
    } finally {
      control.close();
    }
  } catch (thrown) {
    return { ...nothing, findings: unreachedFindings(request, asGodwitError(thrown)) };
  }
}

/** By which finding an error while reaching a destination is told: what comes before that is well. */
const ABOUT: readonly (readonly [about: string, codes: readonly ErrorCode[]])[] = [
  ['peer', []],
  ['tls', ['tls-required', 'tls-failed', 'tls-name-mismatch', 'peer-not-allowed']],
  ['version', ['bad-version', 'bad-magic', 'bad-kind', 'bad-message']],
];

function unreachedFindings(
  { host, port }: MigrationRequest,
  { code, message }: GodwitError,
): Finding[] {
  const at = Math.max(
    0,
    ABOUT.findIndex(([, codes]) => codes.includes(code)),
  );
  const about = ABOUT[at]![0];
  const reached = { about: 'peer', verdict: 'ok' as const, code: '', text: '' };
  const failed = { about, verdict: 'no' as const, code, text: printable(message) };
  return at === 0
    ? [failed]
    : [{ ...reached, text: `${formatAddress(host, port)} answers` }, failed];
}

function reachedFindings(
  { host, port }: MigrationRequest,
  { security }: ThereContext,
  { version, agent }: Welcome,
): Finding[] {
  const ok = (about: string, text: string) => ({ about, verdict: 'ok' as const, code: '', text });
  const secured = security.credentials !== undefined;
  return [
    ok('peer', `${formatAddress(host, port)} answers`),
    ok('tls', secured ? `TLS 1.3; the certificate is for ${host}` : 'none, as both sides want it'),
    ok('version', `protocol version ${version}, ${printable(agent.slice(0, 100))}`),
  ];
}

async function askThere(
  request: MigrationRequest,
  context: ThereContext,
  guest: KnownGuest | undefined,
  control: Connection,
  welcome: Welcome,
  wanted: 'answer' | 'way',
): Promise<Pick<There, 'findings'> & Partial<There>> {
  const unknown = (text: string) => ({ findings: [notKnown('answer', text)] });
  if (guest === undefined)
    return unknown('what guest it would get is not known, so it was not asked');
  if (!welcome.features.includes(CHECK_FEATURE))
    return unknown(
      'the agent there is of an older version that cannot be asked whether it would take the guest, nor how fast the link is; a newer one can',
    );
  const ended = Promise.withResolvers<never>();
  ended.promise.catch(() => {}); // told where it is waited for
  const id = randomBytes(8).toString('hex');
  let answer: CheckAnswer;
  try {
    answer = await question(id, request, guest, control, welcome, ended.reject);
  } catch (thrown) {
    return { findings: [refusedFinding(asGodwitError(thrown))] };
  }
  const findings = answer.findings.map(
    (finding) => ({ ...finding, text: printable(finding.text) }) as Finding,
  );
  if (wanted === 'answer') return { answer, findings };
  const measured = await measure(id, request, context, answer, ended.promise);
  return { answer, way: measured.way, findings: [...findings, ...measured.findings] };
}

/** A destination that is asked too often, or in vain, has not refused the guest. */
function refusedFinding({ code, message }: GodwitError): Finding {
  const finding = notKnown('answer', `it does not answer: ${printable(message)}`);
  return { ...finding, code };
}

async function question(
  id: string,
  { verify, destName }: MigrationRequest,
  known: KnownGuest,
  control: Connection,
  { limits: { lanes }, features }: Welcome,
  onEnd: (error: unknown) => void,
): Promise<CheckAnswer> {
  const { hypervisor, machine, memoryBytes: memory, domain: xml = '' } = known;
  const guest = destName ?? known.name;
  const domain = features.includes(DOMAIN_FEATURE) && xml.length <= MAX_DOMAIN ? xml : '';
  const asked = { id, guest, hypervisor, machine, memory, lanes, verify, domain };
  const answered = Promise.withResolvers<CheckAnswer>();
  await ask(control, {
    say: () => control.send('Check', asked),
    answer: 'CheckAnswer',
    limitMs: ANSWER_LIMIT_MS,
    take: (message) => {
      requireCheckAnswer(message, lanes);
      answered.resolve({ ...message, secret: Uint8Array.from(message.secret) });
      control.serve({ onMessage: () => {}, onClose: onEnd });
    },
  });
  return answered.promise;
}

/** Opens the lanes of a move and sends ballast over them. */
async function measure(
  id: string,
  { host, bandwidth }: MigrationRequest,
  { security, connectTimeoutMs }: ThereContext,
  { dataPorts, secret }: CheckAnswer,
  ended: Promise<never>,
): Promise<Pick<There, 'findings' | 'way'>> {
  if (dataPorts.length === 0) return { findings: [], way: undefined }; // said by the destination
  const lanes: Connection[] = [];
  const over = new AbortController();
  const orEnded = <T>(work: Promise<T>) => Promise.race([work, ended]);
  const dial = async (port: number, lane: number) => {
    const { signal } = over;
    const to = { host, port, timeoutMs: connectTimeoutMs, security, signal };
    const connection = await connectTo(to, { side: 'sender', connection: 'data', ...UNSERVED });
    lanes.push(connection);
    if (signal.aborted) connection.close();
    await ask(connection, {
      say: () => connection.send('LaneOpen', { migration: id, lane, secret, received: 0 }),
      answer: 'LaneReady',
      limitMs: connectTimeoutMs,
      take: () => {},
    });
  };
  try {
    const opened = await lookAt('lanes', async () => {
      await orEnded(Promise.all(dataPorts.map(dial)));
      return `data connections can be made to ${dataPorts.length} ports`;
    });
    if (opened.verdict !== 'ok') return { findings: [opened], way: undefined };
    let way: MeasuredWay | undefined;
    const link = await lookAt('link', async () => {
      way = await orEnded(measureWay(lanes, bandwidth));
      return wayText(way);
    });
    return { findings: [opened, link], way: way && { ...way, lanes: dataPorts.length } };
  } finally {
    over.abort();
    for (const lane of lanes) lane.close();
  }
}

function wayText({ rate, spread, roundTripMs, bytes, ms }: MeasuredWay): string {
  const measured = `${formatSize(bytes)} in ${formatDuration(ms)}`;
  const give = `give or take ${Math.round(spread * 100)} %`;
  return `${formatRate(rate)}, ${give} (${measured}); round trip ${formatDuration(roundTripMs)}`;
}
