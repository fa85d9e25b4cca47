import { asGodwitError, GodwitError } from '../../lib/errors.ts';
import type { GuestCopy } from '../../lib/guest/guest.ts';
import { DESTINATION_MACHINE } from '../../lib/ownership/destination-machine.ts';
import { JournalDoubt } from '../../lib/ownership/journal/journal.ts';
import {
  DESTINATION_OBLIGATIONS,
  type Obligation,
  SOURCE_OBLIGATIONS,
} from '../../lib/ownership/obligations.ts';
import { SOURCE_MACHINE } from '../../lib/ownership/source-machine.ts';
import type { Planted, ScheduleOptions } from './simulator.ts';

/** A bug that somebody could write, and what the simulator says of it. */
export interface Bug {
  readonly name: string;
  readonly planted: Planted;
  readonly seen: RegExp;
  /** It takes a person's decision. */
  readonly person?: true;
  /** It is rare: the seed to begin with. */
  readonly first?: number;
  readonly crash?: ScheduleOptions['crash'];
}

const TWO = /two copies run|runs again|was the guest and is destroyed|two run/;

function source(step: typeof SOURCE_MACHINE.step): Planted {
  return { sourceMachine: { ...SOURCE_MACHINE, step } };
}

function destination(step: typeof DESTINATION_MACHINE.step): Planted {
  return { destinationMachine: { ...DESTINATION_MACHINE, step } };
}

/** Whatever comes of it, it counts as done. */
function forgetful(obligation: Obligation): Obligation {
  return {
    ...obligation,
    establish: (copy, known) => obligation.establish(copy, known).catch(() => 'paused'),
  };
}

/** An act that has begun and is not answered is taken for one that never was. */
function claimsNeverRan(copy: GuestCopy): GuestCopy {
  const resume = async () => {
    try {
      return await copy.resume();
    } catch (thrown) {
      throw new GodwitError('not-started', asGodwitError(thrown).message);
    }
  };
  return { ...copy, resume };
}

function without<Obligations extends object>(
  all: Obligations,
  name: keyof Obligations,
): Obligations {
  const { [name]: _, ...rest } = all;
  return rest as Obligations;
}

export const BUGS: readonly Bug[] = [
  {
    name: 'the source commits with a copy that its hypervisor may still resume',
    planted: source((state, event, owns) =>
      state.name === 'suspended' && event.type === 'prepared'
        ? SOURCE_MACHINE.step(state, { type: 'sealed', late: undefined }, owns)
        : SOURCE_MACHINE.step(state, event, owns),
    ),
    seen: TWO,
  },
  {
    name: 'the source resumes when the connection is lost after commit',
    planted: source((state, event, owns) =>
      state.name === 'committed' && event.type === 'lost'
        ? SOURCE_MACHINE.step({ ...state, name: 'suspended' }, event, owns)
        : SOURCE_MACHINE.step(state, event, owns),
    ),
    seen: TWO,
  },
  {
    name: 'a committed source believes that nothing is known of the migration',
    planted: source((state, event, owns) =>
      state.name === 'committed' && event.type === 'forgotten'
        ? SOURCE_MACHINE.step(
            state,
            { type: 'refused', epoch: state.epoch, error: new GodwitError('cancelled', 'gone') },
            owns,
          )
        : SOURCE_MACHINE.step(state, event, owns),
    ),
    first: 1501,
    seen: TWO,
  },
  {
    name: 'the epoch belongs to the migration: an older one acts on',
    planted: {
      tenure: (tenure) => ({
        epoch: tenure.epoch,
        owns: true,
        hold: async () => true,
        raise: async () => {},
        rest: () => tenure.rest(),
        leave: () => tenure.leave(),
      }),
    },
    person: true,
    seen: /./,
  },
  {
    name: 'a second migration may begin while one is open',
    planted: {
      store: (store) => ({
        ...store,
        take: async () => ({ release: () => {} }),
        read: (guest) => {
          const record = store.read(guest);
          return record && { ...record, rest: true };
        },
      }),
    },
    seen: /./,
  },
  {
    name: 'a failed resume is forgotten',
    planted: {
      sourceObligations: { ...SOURCE_OBLIGATIONS, aborted: forgetful(SOURCE_OBLIGATIONS.aborted!) },
    },
    seen: /paused/,
  },
  {
    name: 'a copy that is not seen is taken for gone',
    planted: { attach: (found) => found().catch(() => 'gone' as const) },
    seen: /./,
  },
  {
    name: 'a record in doubt is taken for one that is not there',
    planted: {
      writeError: (error) =>
        error instanceof JournalDoubt ? new GodwitError('journal-failed', error.message) : error,
    },
    crash: { agent: 'A.send', step: 18 },
    seen: TWO,
    first: 4001,
  },
  {
    name: 'the destination runs the guest before its journal says so',
    planted: {
      destinationMachine: { ...DESTINATION_MACHINE, gates: ['prepared'], writtenFirst: [] },
    },
    seen: TWO,
  },
  {
    name: 'a resume that was not answered is taken for one that never was',
    planted: { client: claimsNeverRan },
    first: 2501,
    seen: TWO,
  },
  {
    name: 'a prepared copy runs by itself when the source is lost',
    planted: destination((state, event, owns) =>
      state.name === 'prepared' && (event.type === 'lost' || event.type === 'restart')
        ? DESTINATION_MACHINE.step(state, { type: 'commit', epoch: state.epoch }, owns)
        : DESTINATION_MACHINE.step(state, event, owns),
    ),
    seen: TWO,
  },
  {
    name: 'the destination refuses and keeps its copy',
    planted: { destinationObligations: without(DESTINATION_OBLIGATIONS, 'refused') },
    seen: /left over/,
  },
  {
    name: 'the source ends and keeps its copy',
    planted: { sourceObligations: without(SOURCE_OBLIGATIONS, 'released') },
    seen: /left over|runs again/,
  },
  {
    name: 'a superseded copy is not stopped',
    planted: {
      sourceObligations: without(SOURCE_OBLIGATIONS, 'superseded'),
      destinationObligations: without(DESTINATION_OBLIGATIONS, 'superseded'),
    },
    person: true,
    seen: /two run/,
  },
  {
    name: 'the guest has moved on, and that is not heard',
    planted: source((state, event, owns) =>
      event.type === 'recovered' && event.state === 'moved'
        ? { state, acts: [] }
        : SOURCE_MACHINE.step(state, event, owns),
    ),
    person: true,
    first: 501,
    seen: /two run/,
  },
  {
    name: 'a side at rest stands down for a decision before it has the claim',
    planted: {
      tenure: (tenure) => ({
        epoch: tenure.epoch,
        get owns() {
          return tenure.owns;
        },
        hold: () => tenure.hold().catch(() => true),
        raise: (epoch) => tenure.raise(epoch),
        rest: () => tenure.rest(),
        leave: () => tenure.leave(),
      }),
    },
    person: true,
    first: 2001,
    seen: /./,
  },
];
