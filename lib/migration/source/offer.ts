import { randomBytes } from 'node:crypto';
import type { DiskLane } from '../../disks/disk-lane.ts';
import { GodwitError } from '../../errors.ts';
import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import { StateSpool } from '../../memory/state-spool.ts';
import { SendPool, type SendPoolOptions } from '../../pages/send-pool.ts';
import { slotsPerLane } from '../../pages/send-window.ts';
import { within } from '../../poll.ts';
import { waysOf } from '../../precopy/rounds/page-ways.ts';
import type { Rounds } from '../../precopy/rounds/rounds.ts';
import { formatDuration, formatSize } from '../../units.ts';
import { checkAccept, KEPT_SECRET_SIZE } from '../../wire/handshake.ts';
import { STALL_FACTOR } from '../../wire/link.ts';
import type { Accept } from '../../wire/messages.ts';
import type { Course } from './basis.ts';
import type { Connected } from './connect.ts';
import type { Conversation } from './conversation.ts';
import { diskLane } from './disks.ts';

/** A hypervisor starts in this time, whatever memory it allocates first, ms. */
const ACCEPT_LIMIT_MS = 120_000;
/** Accept's word for how memory is filled, for people. */
const PLACEMENTS: Readonly<Record<string, string>> = {
  direct: 'direct placement: pages are written into the memory that the guest will have',
  stream: "stream placement: pages reach the guest's memory through its hypervisor",
};

export interface Accepted {
  readonly pool: SendPool;
  /** Of a guest whose disks go with it. */
  readonly lane: DiskLane | undefined;
  readonly rounds: Rounds;
  /** Bytes per second at which the destination re-reads memory. */
  readonly verifyRate: number;
  /** How long a record takes to be durable there, ms. */
  readonly peerJournalMs: number;
}

/** Offers the guest and, once it is accepted, opens the lanes for its pages. */
export async function offer(
  course: Course,
  destination: Conversation,
  connected: Connected,
): Promise<Accepted> {
  const { id, context, facts, ending, handover, guest, layout, releases } = course;
  const { link, lanes } = connected;
  const keptSecret = randomBytes(connected.mayHaveKept ? KEPT_SECRET_SIZE : 0);
  sayOffer(course, connected, keptSecret);
  facts.waits('the destination to make room for the guest');
  const accept = await ending.or(within(ACCEPT_LIMIT_MS, destination.accepted, notAccepted));
  facts.waits(undefined);
  checkAccept(accept, lanes);
  const { name, destName } = guest.description;
  if (destName !== undefined && destName !== name) facts.note(`its name there is ${destName}`);
  facts.note(PLACEMENTS[accept.placement] ?? `placement ${accept.placement}`);
  const { keptPages } = accept;
  const keptSize = formatSize(keptPages * PAGE_SIZE);
  if (keptPages > 0)
    facts.note(`the destination has kept ${keptSize} of its memory: only what differs is sent`);
  destination.agreed(accept.secret);
  const slots = slotsPerLane(layout, lanes, connected.window);
  const { pagesOf, beside, openRounds } = waysOf(guest, layout, lanes, slots, course.hash.seed);
  const state = StateSpool.open(context.ramDir, 1);
  releases.add(() => state.close());
  const kept = keptPages > 0 ? { keptSecret } : {};
  const sources = { pagesOf, beside, state: state.share, ...kept };
  const pool = newPool(course, { ...connected, window: slots }, accept, sources);
  releases.add(() => pool.close());
  const lane = guest.disks && diskLane(course, connected, accept, pool, guest.disks);
  destination.carry(pool, lane);
  const opening = Promise.all([pool.open(), lane?.open(), guest.saveInto(state)]);
  opening.catch(() => {}); // what keeps the records from being written comes first
  // The one who could be asked later has to be known before anything rests on it.
  await context.journal.note(id, { secret: accept.secret });
  await handover.adopt(accept.epoch);
  await ending.or(opening);
  const rounds = openRounds(pool, link);
  releases.add(() => rounds.end().catch(() => {})); // gone with the guest when it has moved
  destination.rounds(rounds);
  facts.count(() => ({
    totals: pool.totals(),
    diskBytes: lane?.counted.bytes ?? 0,
    round: { number: rounds.round, pages: rounds.roundPages, sent: rounds.roundTotals.pages },
  }));
  return { pool, lane, rounds, verifyRate: accept.verifyRate, peerJournalMs: accept.journalMs };
}

function notAccepted(): GodwitError {
  const text = `the destination has neither accepted nor refused the guest within ${formatDuration(ACCEPT_LIMIT_MS)}`;
  return new GodwitError('no-progress', text);
}

function sayOffer(
  { id, request, handover, guest, hash }: Course,
  { link }: Connected,
  keptSecret: Uint8Array,
): void {
  const { name, destName = name, hypervisor, deviceModel, regions } = guest.description;
  link.send('GuestOffer', {
    migration: id,
    epoch: handover.state.epoch,
    guest: destName,
    hypervisor,
    deviceModel,
    pageSize: PAGE_SIZE,
    regions,
    hashSeed: hash.seed,
    verify: request.verify,
    keptSecret,
  });
}

function newPool(
  { id, request, context, facts, ending, layout, hash }: Course,
  { window, compression }: Connected,
  { dataPorts, secret }: Accept,
  sources: Pick<SendPoolOptions, 'pagesOf' | 'beside' | 'state' | 'keptSecret'>,
): SendPool {
  const { crew, security, connectTimeoutMs, peerTimeoutMs, reconnectTimeoutMs } = context;
  return new SendPool({
    crew,
    host: request.host,
    ports: dataPorts,
    security,
    connectTimeoutMs,
    stallTimeoutMs: peerTimeoutMs * STALL_FACTOR,
    reconnectTimeoutMs,
    migration: id,
    secret,
    hashSeed: hash.seed,
    layout,
    ...sources,
    window,
    compression,
    bandwidth: facts.caps.bandwidth,
    onFailure: (error) => ending.abort(error),
  });
}
