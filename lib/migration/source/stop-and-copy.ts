import { totalsSince } from '../../pages/counters.ts';
import type { PrecopyResult } from '../../precopy/loop.ts';
import type { Course } from './basis.ts';
import type { Connected } from './connect.ts';
import type { Accepted } from './offer.ts';
import type { SourceSuspension } from './suspension.ts';

/** All may be as it should be for it, and the operator's own command has run. */
export async function readyToSuspend(
  { context, facts, ending }: Course,
  { link }: Connected,
  { verdict }: PrecopyResult,
): Promise<void> {
  await ending.or(link.ready()); // nobody is suspended for a connection that is not there
  await ending.or(context.hook('preSuspend'));
  facts.enter('stop-and-copy');
  context.log('info', `stop-and-copy: ${verdict.reason}`);
}

/**
 * Suspends the guest and sends the rest; resolves when the guest runs at its destination and its
 * copy here is gone.
 */
export async function stopAndCopy(
  course: Course,
  { link }: Connected,
  accepted: Accepted,
  suspension: SourceSuspension,
): Promise<void> {
  const { handover, ending, guest } = course;
  const { pool, rounds } = accepted;
  pool.hurry();
  await ending.or(handover.suspend(guest.arrives));
  suspension.mark('suspend');
  const { runState = 'running' } = handover;
  link.send('Suspend', { limitMs: Math.round(suspension.limitMs ?? 0), runState });
  await ending.or(rounds.sync());
  suspension.mark('sync');
  // The hypervisor saves while the last pages are on their way, and what it has saved follows them.
  const saving = guest.saveDeviceState();
  const sending = pool.sendState();
  suspension.follow(saving, sending);
  const round = await sendLast(course, accepted);
  suspension.mark('pages');
  const digest = pool.digest();
  digest.catch(() => {});
  course.facts.round(round);
  const bytes = await ending.or(saving);
  link.send('DeviceState', { bytes, lane: await ending.or(sending) });
  suspension.mark('deviceState');
  link.send('Digest', { lane: await ending.or(digest) });
  suspension.mark('digest');
  await ending.or(ending.moved);
}

/** The last pass, as it is recorded. */
async function sendLast({ ending }: Course, { pool, rounds }: Accepted) {
  const before = pool.totals();
  const startedMs = performance.now();
  await ending.or(rounds.sendLast());
  const ms = performance.now() - startedMs;
  const totals = totalsSince(pool.totals(), before);
  const { round, roundPages: dirtyPages } = rounds;
  return { round, stopAndCopy: true, cutShort: false, dirtyPages, ms, totals };
}
