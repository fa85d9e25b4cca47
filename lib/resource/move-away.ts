import { setTimeout as sleep } from 'node:timers/promises';
import { forgetMoves, setAside, takeBack } from '../cluster/aside.ts';
import { asGodwitError } from '../errors.ts';
import type { MigrationRequest, MigrationView } from '../migration/view.ts';
import { poll } from '../poll.ts';
import { parseDuration } from '../units.ts';
import { type Call, Failure, OCF } from './call.ts';
import type { GuestPlace } from './place.ts';

const POLL_MS = 200;
/** A cluster that elects another controller takes no orders for a while, ms. */
const GIVE_BACK_MS = 20_000;
/**
 * An agent that is being restarted is back in this time, ms. Longer is not waited for: Pacemaker fences no
 * node as long as an action is under way.
 */
const OPEN_MS = 15_000;
/** Of what is granted, the part after which the guest is moved as well as it then can be. */
const READY = 0.6;

/**
 * `migrate_to`. Pacemaker takes a failed one for the end of the guest: it stops it at both hosts and starts it
 * anew, and does so, too, when a host is lost in the middle, before that is fenced. So it is kept away from
 * the guest: by `maintenance`, from before the guest is suspended until its place is known. Until then the
 * guest is held at its source, where a loss means what it always means.
 */
export async function moveAway(call: Call, place: GuestPlace): Promise<number> {
  try {
    return await move(call, place);
  } catch (thrown) {
    const { message } = thrown instanceof Failure ? thrown : asGodwitError(thrown);
    // It has not moved, and runs: without on-fail=block Pacemaker would restart it for that.
    if (!call.blocks && !(thrown instanceof OpenPlace)) await keepAway(call);
    throw new Failure(message);
  }
}

/** What becomes of the guest is not known in time: Pacemaker's hands stay off it. */
class OpenPlace extends Failure {}

async function move(call: Call, place: GuestPlace): Promise<number> {
  if (call.target === undefined || call.node === undefined)
    throw new Failure('migrate_to is told no target');
  await forgetMoves(call.resource, call.node);
  const begun = await begin(call, call.target, place);
  const client = place.send;
  const { id } = begun;
  const readyByMs = performance.now() + call.timeoutMs * READY;
  let openByMs = Number.POSITIVE_INFINITY;
  let isAside = false;
  for (let view = begun; ; view = await lookAgain(view)) {
    if (view.outcome !== undefined && view.outcome !== 'needs-resolve') {
      if (isAside) await giveBack(call);
      if (view.outcome === 'completed') return OCF.success;
      throw new Failure(`the guest has not moved: ${view.message ?? view.outcome}`);
    }
    if (view.outcome === undefined) openByMs = performance.now() + OPEN_MS;
    else if (performance.now() > openByMs)
      throw new OpenPlace(`the guest's place is open, since ${call.node} does not answer`);
    if (performance.now() > call.deadlineMs) await tooLate(call, place, id, isAside);
    if (!isAside && (view.hold?.ready || performance.now() > readyByMs)) {
      await setMineAside(call, place, id);
      isAside = true;
      await client.request('PATCH', `/migrations/${id}`, { hold: null });
    }
  }

  /** An agent that is being restarted takes up what is open: it is asked again. */
  async function lookAgain(last: MigrationView): Promise<MigrationView> {
    await sleep(POLL_MS);
    return client.request<MigrationView>('GET', `/migrations/${id}`).catch((thrown) => {
      if (asGodwitError(thrown).code === 'daemon-unreachable') return last;
      throw thrown;
    });
  }
}

async function setMineAside(call: Call, place: GuestPlace, id: string): Promise<void> {
  try {
    await setAside(call.resource, id);
  } catch (thrown) {
    // Nobody knows whether Pacemaker has heard it: the guest stays.
    await place.cancel(id, 'source');
    throw thrown;
  }
}

async function giveBack({ resource }: Call): Promise<void> {
  let why = '';
  const done = await poll(GIVE_BACK_MS, POLL_MS, () =>
    takeBack(resource).then(
      () => true,
      (thrown) => {
        why = asGodwitError(thrown).message;
        return undefined;
      },
    ),
  );
  if (!done) console.error(`maintenance of ${resource} is to be taken away by hand: ${why}`);
}

async function keepAway({ resource }: Call): Promise<void> {
  await setAside(resource, 'failed').catch(() => {});
  console.error(
    `${resource} is in maintenance, so that the guest is not restarted: give migrate_to on-fail=block, and see docs/pacemaker.md`,
  );
}

async function begin(
  call: Call,
  { host, port }: NonNullable<Call['target']>,
  place: GuestPlace,
): Promise<MigrationView> {
  const before = await place.look();
  if (before.what === 'leaving') await place.cancel(before.id, 'source'); // of one that was killed
  const request: MigrationRequest = {
    ...{ guest: call.guest, host, port, policy: 'contract', compression: 'auto', verify: false },
    by: 'Pacemaker',
    limits: {
      hold: 'cutover',
      timeoutMs: Math.max(1000, call.deadlineMs - performance.now()),
      ...(call.maxSuspendMs && {
        maxSuspendMs: parseDuration(call.maxSuspendMs, 'max_suspend_time'),
      }),
      ...(call.prefer && { prefer: call.prefer as 'workload' | 'completion' }),
    },
  };
  return place.send.request<MigrationView>('POST', '/migrations', request);
}

/** Pacemaker kills what takes longer, and knows nothing then. */
async function tooLate(call: Call, place: GuestPlace, id: string, isAside: boolean): Promise<void> {
  await place.cancel(id, 'source');
  const now = await place.look();
  if (now.what === 'given' || now.what === 'unknown')
    throw new OpenPlace(
      `the guest's place is open: see agent-send resolve ${id}; ${call.resource} stays in maintenance until it is known`,
    );
  if (isAside) await giveBack(call);
  throw new Failure('the guest has not moved in time');
}
