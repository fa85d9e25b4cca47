import { setTimeout as sleep } from 'node:timers/promises';
import { asGodwitError } from '../errors.ts';
import type { RunState } from '../guest/run-state.ts';
import type { GuestRecord } from '../ownership/guest-record.ts';
import { type Call, Failure, OCF } from './call.ts';
import { type GuestHere, guestHere } from './guest-here.ts';
import { moveAway } from './move-away.ts';
import { GuestPlace, type Place } from './place.ts';
import { placesOf } from './places.ts';

const POLL_MS = 250;
/** Of the time for stopping a guest, the part in which it may shut itself down. */
const GRACE = 0.7;
/** It has failed, and only starting it anew helps. */
const BROKEN: readonly RunState[] = ['panicked', 'shut-down', 'internal-error'];

/** What the actions of a call act on. */
interface Scene {
  readonly call: Call;
  readonly guest: GuestHere;
  readonly place: GuestPlace;
}

type Action = (scene: Scene) => Promise<number>;

const ACTIONS: Readonly<Record<string, Action>> = {
  start,
  stop,
  monitor,
  migrate_to: ({ call, place }) => moveAway(call, place),
  migrate_from: hasArrived,
  'validate-all': async () => OCF.success, // what can be said without a hypervisor was said before
};

/**
 * Answers Pacemaker.
 * @returns an exit code of OCF
 * @throws Failure, with its code
 */
export async function act(name: string, call: Call): Promise<number> {
  const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined;
  if (action === undefined) throw new Failure(`there is no action ${name}`, OCF.unimplemented);
  const send = placesOf('agent-send', call.configs.send);
  const recv = placesOf('agent-recv', call.configs.recv);
  const guest = open(call, { send, recv });
  return action({ call, guest, place: new GuestPlace(call.guest, { send, recv }) });
}

function open(call: Call, places: Parameters<typeof guestHere>[1]): GuestHere {
  try {
    return guestHere(call, places);
  } catch (thrown) {
    throw new Failure(asGodwitError(thrown).message, OCF.installed);
  }
}

/**
 * Whether the guest lives here: what its hypervisor says, also when the agents are down. A copy that has
 * not arrived, or was given away, does not.
 */
async function monitor({ guest, place }: Scene): Promise<number> {
  let state: RunState | 'gone' | undefined;
  let why = '';
  try {
    state = await guest.look();
  } catch (thrown) {
    why = asGodwitError(thrown).message; // an agent may have its monitor
  }
  if (state === 'gone') return OCF.notRunning;
  if (state === 'running') return OCF.success;
  const { what } = await place.look();
  if (what === 'leaving') return OCF.success;
  if (what !== 'free' && (what !== 'unknown' || state === 'incoming')) return OCF.notRunning;
  if (state === undefined || what === 'unknown')
    throw new Failure(`whether the guest lives here cannot be told: ${why || `it is ${state}`}`);
  if (BROKEN.includes(state)) throw new Failure(`the guest is ${state}`);
  return state === 'incoming' ? OCF.notRunning : OCF.success;
}

/**
 * Pacemaker orders a start where it knows that no other node has the guest. A copy that stands here for its
 * other host's word is answered then, but only when a fence of that host is confirmed.
 */
async function start(scene: Scene): Promise<number> {
  const { call, guest, place } = scene;
  for (;;) {
    if ((await monitor(scene)) === OCF.success) return OCF.success;
    const now = await place.look();
    if (now.what === 'free') break;
    if (now.what === 'unknown')
      throw new Failure(`a migration of the guest is open, and its agent is down: ${now.why}`);
    await settle(place, now);
    await waitUntil(call, `the guest's place is open: migration ${now.id}`);
  }
  await guest.start();
  return OCF.success;
}

async function settle(place: GuestPlace, now: Exclude<Place, { what: 'free' | 'unknown' }>) {
  const { what, id } = now;
  if (what === 'arriving') return place.cancel(id, 'destination');
  if (what === 'leaving') return;
  const side: GuestRecord['side'] = what === 'given' ? 'source' : 'destination';
  const fenced = await place.fenced(id, side);
  if (fenced !== undefined) await place.resolve(id, side, fenced.answer, fenced.fence);
}

/** Success means that nothing here runs, and that nothing here will. */
async function stop(scene: Scene): Promise<number> {
  const { call, guest, place } = scene;
  for (;;) {
    const now = await place.look();
    if (now.what === 'free' || now.what === 'unknown') break;
    const { what, id } = now;
    if (what === 'leaving') await place.cancel(id, 'source');
    if (what === 'arriving') await place.cancel(id, 'destination');
    if (what === 'waiting') await place.resolve(id, 'destination', 'give-up', 'stop');
    // Given away: it goes when the destination says that it runs the guest.
    await waitUntil(call, `the guest's place is open: migration ${id}`);
  }
  await guest.stop((call.deadlineMs - performance.now()) * GRACE);
  return OCF.success;
}

async function hasArrived(scene: Scene): Promise<number> {
  for (;;) {
    const what = await monitor(scene).catch(() => OCF.failed);
    if (what === OCF.success) return OCF.success;
    await waitUntil(scene.call, 'the guest has not arrived');
  }
}

/** @throws Failure when there is no more time */
export async function waitUntil({ deadlineMs }: Call, why: string): Promise<void> {
  if (performance.now() + POLL_MS > deadlineMs) throw new Failure(why);
  await sleep(POLL_MS);
}
