import { setTimeout as sleep } from 'node:timers/promises';
import { DiskLane } from '../../disks/disk-lane.ts';
import { GodwitError } from '../../errors.ts';
import type { CopiedDisks } from '../../guest/guest.ts';
import type { SendPool } from '../../pages/send-pool.ts';
import { formatDuration } from '../../units.ts';
import { STALL_FACTOR } from '../../wire/link.ts';
import type { Accept } from '../../wire/messages.ts';
import type { Course } from './basis.ts';
import type { Connected } from './connect.ts';
import type { Accepted } from './offer.ts';

/** How often the hypervisor is asked how far it is, ms. */
const LOOK_MS = 250;

/** The lane for a guest's disks, under the cap of its pages. @throws GodwitError bad-message */
export function diskLane(
  { id, request, context, ending, releases }: Course,
  { lanes }: Connected,
  { diskPort, secret }: Accept,
  pool: SendPool,
  disks: CopiedDisks,
): DiskLane {
  if (diskPort === 0) throw new GodwitError('bad-message', 'Accept has no port for disks');
  const { crew, security, connectTimeoutMs, peerTimeoutMs, reconnectTimeoutMs } = context;
  const stallTimeoutMs = peerTimeoutMs * STALL_FACTOR;
  const where = { host: request.host, port: diskPort, security };
  const limits = { connectTimeoutMs, stallTimeoutMs, reconnectTimeoutMs };
  const what = { migration: id, secret, lane: lanes, pacer: pool.pacer, path: disks.socket };
  const lane = new DiskLane(crew, { ...where, ...limits, ...what }, (error) => ending.abort(error));
  releases.add(() => lane.close());
  disks.onEnd(() => void lane.close());
  return lane;
}

/**
 * Has the disks copied that go with the guest, while it runs: nothing else is sent before they are.
 * @throws GodwitError policy-abort when the move's time is over, and whatever the copy fails with
 */
export async function copyDisks(course: Course, accepted: Accepted): Promise<void> {
  const { guest, facts, ending, context } = course;
  const { disks } = guest;
  const { lane } = accepted;
  if (disks === undefined || lane === undefined) return;
  facts.enter('precopy');
  const startedMs = performance.now();
  const copied = disks.copy().then(() => true);
  copied.catch(() => {});
  for (let done = false; !done; ) {
    facts.disks(await ending.or(disks.progress()), lane.counted.bytes);
    requireTime(course);
    done = await ending.or(Promise.race([copied, sleep(LOOK_MS, false)]));
  }
  const { names, total } = await ending.or(disks.progress());
  const ms = performance.now() - startedMs;
  facts.disksCopied({ ms, bytes: lane.counted.bytes, names, total });
  context.log('info', `${names.join(', ')} copied in ${formatDuration(ms)}`);
}

/** No policy is asked before there are rounds: a guest that is to move in any case takes the time. */
function requireTime({ facts, steering }: Course): void {
  const { timeoutMs, prefer } = steering.limits;
  const isOver = performance.now() - facts.startedMs >= (timeoutMs ?? Number.POSITIVE_INFINITY);
  if (!isOver || prefer === 'completion') return;
  const text = `the ${formatDuration(timeoutMs!)} of --timeout passed while disks were copied`;
  throw new GodwitError('policy-abort', text);
}
