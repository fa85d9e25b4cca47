import { type Finding, lookAt } from '../../finding.ts';
import type { Guest } from '../../guest/hypervisor.ts';
import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import type { Subject } from '../../precopy/calibration.ts';
import type { Forecast } from '../../precopy/forecast.ts';
import { policyLimits } from '../../precopy/limits.ts';
import type { KnownWay } from '../../precopy/past-moves.ts';
import { formatAddress } from '../../wire/address.ts';
import { type Experiences, subjectOf } from '../experiences.ts';
import type { MigrationRequest } from '../view.ts';
import { type Asked, forecastOf, measuredInWords, moveForecast, wordsOf } from './foretell.ts';
import { type Here, type HereContext, type KnownGuest, knownGuest, lookHere } from './here.ts';
import { lookThere, type There, type ThereContext } from './there.ts';
import type { CheckView, SidedFinding } from './view.ts';

export interface CheckContext extends HereContext, ThereContext {
  readonly experiences: Asked['experiences'] & Pick<Experiences, 'add'>;
}

/**
 * Whether a migration would be taken, and what it would be like. Looks only: nothing is started, and
 * nothing left on either side but the forecast here, which is compared with what comes.
 * @throws GodwitError bad-option for limits that the policy does not take
 */
export async function runCheck(
  request: MigrationRequest,
  context: CheckContext,
): Promise<CheckView> {
  const { guest, host, port, policy } = request;
  const limits = policyLimits(policy, request.limits);
  const here = await lookHere(guest, request, context);
  const there = await lookThere(request, context, here.guest);
  const findings = [...sided('source', here.findings), ...sided('destination', there.findings)];
  const refused = findings.some(({ verdict }) => verdict === 'no');
  const asked = { request, limits, experiences: context.experiences };
  const forecast = here.guest && forecastAndKeep(asked, here.guest, here, there, refused, context);
  return {
    guest,
    destination: formatAddress(host, port),
    policy,
    limits,
    findings,
    way: there.way,
    forecast,
    expected: refused ? 'refused' : (forecast?.verdict ?? 'unknown'),
  };
}

/**
 * What a move of that guest would be refused for, on either host, for one that is refused already:
 * nothing is measured. A guest that is busy is not asked: somebody else has its monitor.
 */
export async function inTheWay(
  request: MigrationRequest,
  found: Guest,
  { guests, records, ...context }: Pick<HereContext, 'guests' | 'records'> & ThereContext,
): Promise<readonly Finding[]> {
  const { hypervisor, name } = found;
  const hooks = await guests.hooksOf(hypervisor, name);
  const record = await lookAt('record', () => {
    records.requireFree(name);
    return '';
  });
  let guest: KnownGuest | undefined;
  const look = async () => {
    guest = await knownGuest(found, request);
    return '';
  };
  const here = [hooks, record];
  if (record.verdict === 'ok') here.push(await lookAt('guest', look));
  const there = await lookThere({ ...request, lanes: 1 }, context, guest, 'answer');
  return [
    ...here,
    ...there.findings.map(({ about, ...finding }) => ({
      about: `destination ${about}`,
      ...finding,
    })),
  ];
}

function sided(side: SidedFinding['side'], findings: Here['findings']): SidedFinding[] {
  return findings.map((finding) => ({ side, ...finding }));
}

/** Undefined when too little is known for any. */
function forecastAndKeep(
  asked: Omit<Asked, 'subject'>,
  guest: KnownGuest,
  { profile, journalMs }: Here,
  { way, answer, compresses }: There,
  refused: boolean,
  { experiences }: CheckContext,
): Forecast | undefined {
  if (way === undefined || answer === undefined) return undefined;
  const { request } = asked;
  const subject = subjectIn(request, guest);
  const { rate, spread, lanes, roundTripMs } = way;
  const peerJournalMs = Math.max(0, answer.journalMs);
  const { verifyRate } = answer;
  const measured = { rate, spread, lanes, compresses, roundTripMs };
  const hosts = { profile, underWay: false, way: measured, journalMs, peerJournalMs, verifyRate };
  const { diskBytes } = guest;
  const forecasting = forecastOf('check', { ...asked, subject, diskBytes }, hosts);
  const basis = measuredInWords(measured, profile);
  const known: KnownWay = { ...measured, peerJournalMs, verifyRate, cap: request.bandwidth };
  const forecast = moveForecast('check', forecasting, basis);
  experiences.add({
    ...subject,
    kind: 'forecast',
    time: forecast.time,
    terms: wordsOf(request),
    forecast: refused ? undefined : forecast,
    way: known,
  });
  return forecasting.forecast;
}

function subjectIn({ host, port }: MigrationRequest, guest: KnownGuest): Subject {
  const totalPages = guest.memoryBytes / PAGE_SIZE;
  const peer = formatAddress(host, port);
  return subjectOf({ ...guest, peer, totalPages, deviceStateBytes: guest.deviceStateBytes });
}
