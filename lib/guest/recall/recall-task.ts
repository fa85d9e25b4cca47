import fs from 'node:fs';
import os from 'node:os';
import type { Begin } from '../../crew/task.ts';
import { openQemuWay } from '../qemu/recall.ts';
import { openSimulatedWay } from '../simulated/recall.ts';
import { openXenWay } from '../xen/recall.ts';
import type { Recalled, RecallPlace, RecallRequests, RecallWay } from './recall-protocol.ts';
import { Turn } from './turn.ts';

/*
 * The thread that keeps the limit of suspensions: it does nothing but wait for their deadlines, on ways
 * of its own to the hypervisors, so that nothing else that the agent does can hold it up.
 */

const NOT_DONE: Recalled = { done: false };

comeFirst();

/** One suspension to come. */
export const begin: Begin<RecallPlace, RecallRequests> = (place) => {
  let way: RecallWay | undefined;
  let callOff = () => {};
  return {
    handlers: {
      open: async () => {
        way = await openWay(place);
        return undefined;
      },
      arm: ({ atNs, turn }) => {
        const armed = arm(way!, atNs, new Turn(turn));
        callOff = armed.callOff;
        return armed.recalled;
      },
      callOff: () => {
        callOff();
        return undefined;
      },
    },
    close: () => {
      callOff();
      way?.close();
    },
  };
};

/**
 * It runs for a millisecond in a migration, and a machine that is busy is no excuse then. Root may have
 * that, and whom systemd allows it (LimitNICE).
 */
function comeFirst(): void {
  try {
    const thread = Number(fs.readlinkSync('/proc/thread-self').split('/').at(-1));
    os.setPriority(thread, os.constants.priority.PRIORITY_HIGHEST);
  } catch {
    // it waits its turn, then
  }
}

function openWay(place: RecallPlace): Promise<RecallWay> {
  switch (place.kind) {
    case 'simulated':
      return openSimulatedWay(place);
    case 'qemu':
      return openQemuWay(place);
    case 'xen':
      return openXenWay(place);
  }
}

function arm(way: RecallWay, atNs: bigint, turn: Turn) {
  const { promise: recalled, resolve } = Promise.withResolvers<Recalled>();
  const leftMs = Number(atNs - process.hrtime.bigint()) / 1e6;
  const timer = setTimeout(() => resolve(recall(way, turn)), Math.max(0, leftMs));
  const callOff = () => {
    clearTimeout(timer);
    resolve(NOT_DONE);
  };
  return { recalled, callOff };
}

async function recall(way: RecallWay, turn: Turn): Promise<Recalled> {
  if (!turn.take('recall')) return NOT_DONE;
  const startedMs = performance.now();
  let trouble: string | undefined;
  try {
    await way.recall();
  } catch (error) {
    trouble = (error as Error).message; // the handover tries again, as often as it takes
  }
  return { done: true, ms: performance.now() - startedMs, trouble };
}
