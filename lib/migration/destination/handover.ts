import type { GodwitError } from '../../errors.ts';
import { DestinationHandover } from '../../ownership/destination-handover.ts';
import { startDestination } from '../../ownership/destination-machine.ts';
import { BLANK_ENTRY } from '../../ownership/handover.ts';
import type { GuestOffer } from '../../wire/messages.ts';
import type { Facts } from '../facts.ts';
import type { DestinationContext } from './basis.ts';
import type { PreparedIn } from './complete.ts';

export interface HandoverContact {
  readonly offer: GuestOffer;
  readonly context: DestinationContext;
  /** Of the copy; empty before there is anything of it. */
  readonly handle: () => string;
  readonly facts: Facts;
  readonly preparedIn: () => PreparedIn;
  readonly onReport: (moved: boolean, error: GodwitError | undefined) => void;
  /** Something about it is new. */
  readonly onChange: () => void;
}

/** The right to run the guest, with all that it has to do with the migration. */
export function openHandover(contact: HandoverContact): DestinationHandover {
  const { offer, context, handle, facts, preparedIn, onReport, onChange } = contact;
  const { journal, tenure, attach, definitionOf, hook, log, peer } = context;
  const { migration, guest, hypervisor } = offer;
  const { name: state, epoch } = startDestination(tenure.epoch);
  return new DestinationHandover({
    entry: { migration, state, epoch, guest, hypervisor, handle: '', peer, ...BLANK_ENTRY },
    journal,
    tenure,
    attach: async () => (handle() === '' ? 'gone' : attach(handle())),
    definition: () => (handle() === '' ? undefined : definitionOf(handle())),
    hook,
    preparedIn,
    onReport,
    onSuspension: ({ ms, clock }) => {
      const seen = { side: 'destination', agentMs: ms, guestMs: ms, clock } as const;
      facts.suspended({ ...seen, estimate: undefined, limitMs: undefined, parts: {} });
    },
    onChange,
    log,
  });
}
