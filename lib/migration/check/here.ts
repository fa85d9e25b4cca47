import { asGodwitError } from '../../errors.ts';
import { type Finding, lookAt, notKnown } from '../../finding.ts';
import { type Guests, requireTerms } from '../../guest/guests.ts';
import type { DomainTerms, Guest, GuestLook, GuestOutline } from '../../guest/hypervisor.ts';
import { movable, RUN_STATE_WORDS } from '../../guest/run-state.ts';
import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import type { GuestRecords } from '../../ownership/guest-record.ts';
import type { Journal } from '../../ownership/journal/journal.ts';
import type { GuestProfile } from '../../precopy/profile.ts';
import { newestProfile } from '../../report/profile-file.ts';
import { formatDuration, formatSize } from '../../units.ts';
import { isOfGuest } from './foretell.ts';

export interface HereContext {
  readonly guests: Guests;
  readonly records: Pick<GuestRecords, 'requireFree'>;
  readonly journal: Pick<Journal, 'measure'>;
  /** Where profiles are kept. */
  readonly stateDir: string;
}

/** The guest as its source's host sees it. */
export type KnownGuest = GuestLook &
  Pick<GuestOutline, 'machine' | 'domain'> & {
    /** What its disks hold that would go with it. */
    readonly diskBytes: number;
  };

/** All that can be known of a guest that its destination might have. @throws as `Guest.look` */
export async function knownGuest(found: Guest, terms: DomainTerms): Promise<KnownGuest> {
  const look = await found.look();
  movable(found.name, look.state);
  const [machine, domain] = [await found.machine(), await found.domain?.(terms)];
  return { ...look, machine, domain, diskBytes: (await found.diskBytes?.(terms)) ?? 0 };
}

export interface Here {
  readonly findings: readonly Finding[];
  /** Undefined when it cannot be moved, or not be looked at. */
  readonly guest: KnownGuest | undefined;
  readonly profile: GuestProfile | undefined;
  /** A record durable here, ms; 0 when it is not known. */
  readonly journalMs: number;
}

/** Everything about a move that shows on the guest's own host. */
export async function lookHere(
  name: string,
  terms: DomainTerms,
  context: HereContext,
): Promise<Here> {
  const { guests, records, journal, stateDir } = context;
  let guest: KnownGuest | undefined;
  let journalMs = 0;
  const record = await lookAt('record', () => {
    records.requireFree(name);
    return 'no migration of the guest is open here';
  });
  const looked = await lookAt('guest', async () => {
    const found = await guests.find(name);
    requireTerms(found, terms);
    guest = await knownGuest(found, terms);
    const { state, memoryBytes, hypervisor, diskBytes } = guest;
    const disks = diskBytes === 0 ? '' : `; ${formatSize(diskBytes)} of its disks would go with it`;
    return `${name} ${RUN_STATE_WORDS[state]}, ${formatSize(memoryBytes)}, ${hypervisor}${disks}`;
  });
  const written = await lookAt('journal', async () => {
    journalMs = await journal.measure();
    return `a record is durable in ${formatDuration(journalMs)}`;
  });
  const findings = [record, looked, written];
  if (guest === undefined) return { findings, guest, profile: undefined, journalMs };
  const hooks = await guests.hooksOf(guest.hypervisor, name);
  const [profiled, profile] = lookForProfile(stateDir, guest);
  return { findings: [...findings, hooks, profiled], guest, profile, journalMs };
}

/** What is known of how the guest dirties its memory; without it there is only half a forecast. */
function lookForProfile(
  stateDir: string,
  { name, state, memoryBytes }: GuestLook,
): [Finding, GuestProfile | undefined] {
  const about = 'profile';
  const missing = (why: string): [Finding, undefined] => [
    notKnown(about, `${why}; "agent-send profile ${name}" takes one`),
    undefined,
  ];
  const totalPages = memoryBytes / PAGE_SIZE;
  let kept: GuestProfile | undefined;
  try {
    kept = newestProfile(stateDir, name);
  } catch (thrown) {
    return missing(asGodwitError(thrown).message);
  }
  const ok = (text: string) => ({ about, verdict: 'ok' as const, code: '', text });
  if (state === 'paused') {
    const profile = { guest: name, time: new Date().toISOString(), ms: 0, totalPages };
    const content = { zeroShare: kept?.zeroShare, compressedShare: kept?.compressedShare };
    return [ok('a paused guest dirties nothing'), { ...profile, ...content, workingSet: [] }];
  }
  if (kept === undefined) return missing('how the guest dirties its memory was not looked at');
  if (!isOfGuest(kept, totalPages))
    return missing(`the guest had ${formatSize(kept.totalPages * PAGE_SIZE)} of memory then`);
  const how = kept.method === 'rehearsal' ? 'rehearsed' : 'taken';
  return [ok(`${how} ${kept.time}, over ${formatDuration(kept.ms)}`), kept];
}
