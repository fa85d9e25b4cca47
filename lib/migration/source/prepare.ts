import os from 'node:os';
import { asGodwitError, GodwitError } from '../../errors.ts';
import type { SourceGuest } from '../../guest/guest.ts';
import { RUN_STATE_WORDS, type RunState } from '../../guest/run-state.ts';
import { GuestLayout } from '../../memory/guest-layout.ts';
import { BLANK_ENTRY } from '../../ownership/handover.ts';
import type { SourceHandover } from '../../ownership/source-handover.ts';
import { startSource } from '../../ownership/source-machine.ts';
import type { OpenPolicy } from '../../precopy/loop.ts';
import { openPolicy } from '../../precopy/policy/open.ts';
import type { Steering } from '../../precopy/steering.ts';
import { formatAddress } from '../../wire/address.ts';
import { Facts } from '../facts.ts';
import { thisHost } from '../host.ts';
import type { MigrationRequest } from '../view.ts';
import type { Course, SourceContext } from './basis.ts';
import type { MoveWatch } from './move-watch.ts';

/** Peer time limits until a committed migration that gets no answer is told to need a person. */
const PATIENCE_FACTOR = 4;

/** The facts of a migration out of this host, with what was asked for. */
export function openFacts(
  id: string,
  request: MigrationRequest,
  { description: { hypervisor, regions }, hypervisorVersion }: SourceGuest,
  context: SourceContext,
  { limits }: Steering,
  watch: MoveWatch,
): Facts {
  const destination = formatAddress(request.host, request.port);
  const facts = new Facts({
    id,
    role: 'send',
    guest: request.guest,
    peer: destination,
    totalPages: new GuestLayout(regions).totalPages,
    ledger: context.ledger(id),
    patienceMs: context.peerTimeoutMs * PATIENCE_FACTOR,
    onChange: context.onChange,
    onRecord: (record) => {
      const past = watch.see(record);
      if (past !== undefined) context.experiences.add(past);
    },
  });
  const { policy, bandwidth, suspendBandwidth, verify, compression, by } = request;
  const { lanes = context.lanes } = request;
  const asked = { policy, limits, bandwidth, suspendBandwidth, lanes, verify, compression, by };
  facts.asked({ source: os.hostname(), destination, hypervisor, ...asked });
  facts.host('source', thisHost('agent-send', hypervisorVersion));
  return facts;
}

/** Whoever or whatever has stopped it: it stays as it is. */
function stopped(state: RunState): GodwitError {
  const text = `the guest ${RUN_STATE_WORDS[state]}, and not by the migration: it stays as it is`;
  return new GodwitError('guest-stopped', text);
}

/** As the journal has it before anything has happened. */
export function firstEntry(
  migration: string,
  request: MigrationRequest,
  moved: SourceGuest,
  { tenure }: SourceContext,
): SourceHandover['entry'] {
  const { description, handle, arrives } = moved;
  const { name: guest, hypervisor } = description;
  const peer = formatAddress(request.host, request.port);
  const { name: state, epoch } = startSource(tenure.epoch);
  // One that its hypervisor may suspend at any moment is found suspended by who only sees that it is.
  const ownPace = moved.pages === 'pushed' && moved.ownPace !== undefined;
  const blank = { ...BLANK_ENTRY, runState: ownPace ? arrives : BLANK_ENTRY.runState };
  return { migration, state, epoch, guest, hypervisor, handle, peer, ...blank };
}

/**
 * Durable before anything is asked of the guest or the peer; then the policy is made ready.
 * @param whyLost of a guest that dies, which is the reason unless that is known better
 */
export async function prepare(
  course: Course,
  whyLost: (error: GodwitError) => GodwitError,
): Promise<OpenPolicy> {
  const { request, context, handover, guest, ending, releases } = course;
  await context.journal.append(handover.entry);
  guest.onDeath((error) => ending.abort(whyLost(asGodwitError(error))));
  guest.onStopped((state) => ending.abort(stopped(state)));
  const policy = await openPolicy(request.policy, request.policyModule);
  releases.add(() => policy.close());
  return policy;
}
