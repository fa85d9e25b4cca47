/** The guest's own clock: from its ticks the guest knows how long it was suspended. */

/** A moment on both clocks of a host. */
export interface Instant {
  /** CLOCK_MONOTONIC in ms: comparable between processes of one boot of one host. */
  readonly monotonic: number;
  /** Wall clock in ms: comparable between hosts, as far as they agree. */
  readonly realtime: number;
  /** Identifies the boot that `monotonic` belongs to. */
  readonly bootId: string;
}

export interface Suspension {
  /** From the last tick before to the first tick after. */
  readonly ms: number;
  readonly clock: 'monotonic' | 'realtime';
}

/** What travels with the guest. */
export interface HeartbeatState {
  readonly ticks: number;
  readonly lastTick: Instant | undefined;
  /** The last ones, oldest first. */
  readonly suspensions: readonly Suspension[];
  readonly worstGapWhileRunningMs: number;
}

const SUSPENSIONS_KEPT = 16;

export const NO_HEARTBEAT: HeartbeatState = {
  ticks: 0,
  lastTick: undefined,
  suspensions: [],
  worstGapWhileRunningMs: 0,
};

/** The state after a tick while the guest runs. */
export function tick(state: HeartbeatState, now: Instant): HeartbeatState {
  const gap = state.lastTick === undefined ? 0 : now.monotonic - state.lastTick.monotonic;
  const worst = Math.max(state.worstGapWhileRunningMs, gap);
  return { ...state, ticks: state.ticks + 1, lastTick: now, worstGapWhileRunningMs: worst };
}

/** The state after the first tick of a guest that was resumed, here or on another host. */
export function firstTick(state: HeartbeatState, now: Instant): HeartbeatState {
  const { lastTick } = state;
  if (lastTick === undefined) return { ...state, ticks: 1, lastTick: now };
  const suspensions = [...state.suspensions, suspensionBetween(lastTick, now)];
  return {
    ...state,
    ticks: state.ticks + 1,
    lastTick: now,
    suspensions: suspensions.slice(-SUSPENSIONS_KEPT),
  };
}

function suspensionBetween(last: Instant, first: Instant): Suspension {
  if (last.bootId === first.bootId)
    return { ms: first.monotonic - last.monotonic, clock: 'monotonic' };
  return { ms: first.realtime - last.realtime, clock: 'realtime' };
}
