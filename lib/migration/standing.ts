import type { DestinationStateName } from '../ownership/destination-machine.ts';
import type { SourceStateName } from '../ownership/source-machine.ts';
import { OUTCOME_WORDS } from '../report/turning-points.ts';
import type { MigrationView } from './view.ts';

/** What a state means for the guest, as long as it is to be established or told, and once it is over. */
interface Words {
  readonly open: string;
  readonly ended: string;
}

/** Words of a state; `guest` is `the guest runs`, or what it does instead of running. */
type Wording = (guest: string) => Words;

type Side<Name extends string> = Readonly<Record<Exclude<Name, 'ended'>, Wording>>;

const SOURCE: Side<SourceStateName> = {
  precopy: (guest) => always(`${guest} here`),
  suspended: () => always('the guest is suspended here, and any trouble resumes it'),
  committed: () =>
    always(
      'the guest is suspended here; the destination may run it, and has to say whether it does',
    ),
  aborted: (guest) => ({
    open: `${guest} here; the destination may still have to hear so`,
    ended: `${guest} here`,
  }),
  released: (guest) => ({
    open: `${guest} at its destination; the copy here goes`,
    ended: `${guest} at its destination; the copy here is gone`,
  }),
  superseded: () => ({
    open: 'the copy here is stopped: a person decided at the destination that the guest runs there',
    ended:
      'the copy here was given up: a person decided at the destination that the guest runs there',
  }),
};

const DESTINATION: Side<DestinationStateName> = {
  receiving: () => ({
    open: 'the guest is at its source; its memory arrives here',
    ended: 'the guest is at its source; the copy here is gone',
  }),
  prepared: () =>
    always('the guest is here with all its memory, and runs only when the source says so'),
  running: (guest) => ({
    open: `${guest} here; the source may still have to confirm that its copy is gone`,
    ended: `${guest} here`,
  }),
  refused: () => ({
    open: 'the copy here goes and never ran; the source may still have to hear so',
    ended: 'the copy here is gone and never ran',
  }),
  discarded: () => ({
    open: 'the guest is at its source; the copy here goes',
    ended: 'the guest is at its source; the copy here is gone',
  }),
  superseded: () => ({
    open: 'the copy here is stopped: a person decided at the source that the guest runs there',
    ended: 'the copy here was given up: a person decided at the source that the guest runs there',
  }),
};

/** Who has the guest, in one sentence; undefined before there is anything to hand over. */
export function standing({
  role,
  phase,
  ownership,
  guestState,
}: Pick<MigrationView, 'role' | 'phase' | 'ownership' | 'guestState'>): string | undefined {
  const side: Readonly<Record<string, Wording>> = role === 'send' ? SOURCE : DESTINATION;
  if (ownership === undefined || !Object.hasOwn(side, ownership)) return undefined;
  const words = side[ownership]!(`the guest ${guestState ?? 'runs'}`);
  return phase === 'ended' ? words.ended : words.open;
}

/**
 * How it has ended and who has the guest: `It has ended, failed: … The guest runs here.` Undefined
 * while it has not.
 */
export function endInWords(view: MigrationView): string | undefined {
  const { phase, outcome = 'failed', message } = view;
  if (phase !== 'ended') return undefined;
  const why = message === undefined ? '' : `: ${message.replace(/\.$/, '')}`;
  const stands = standing(view);
  const who = stands === undefined ? '' : ` ${stands.charAt(0).toUpperCase()}${stands.slice(1)}.`;
  return `The migration has ended, ${OUTCOME_WORDS[outcome]}${why}.${who}`;
}

/** One word for where a migration stands. What a person has undone is no success any more. */
export function stateWord({ ownership, outcome, phase, hold }: MigrationView): string {
  return ownership === 'superseded' ? ownership : (outcome ?? (hold ? 'held' : phase));
}

/** Nothing more comes of it, or what is still owed on this host goes on without anybody waiting. */
export function isOver({ phase, outcome }: Pick<MigrationView, 'phase' | 'outcome'>): boolean {
  const owed = phase === 'recovery' && outcome !== undefined;
  return phase === 'ended' || outcome === 'needs-resolve' || owed;
}

/** A state that does not end without another one, or in which nothing changes any more. */
function always(words: string): Words {
  return { open: words, ended: words };
}
