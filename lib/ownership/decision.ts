import { GodwitError } from '../errors.ts';
import type { DestinationStateName } from './destination-machine.ts';
import type { Choice } from './machine.ts';
import type { SourceStateName } from './source-machine.ts';

export type { Choice } from './machine.ts';

/** An open handover in words, for the person who has to decide about it. */
export interface Dilemma {
  /** What the journal proves about the guest. */
  readonly proves: string;
  /** What each choice that is open does, and what it risks. */
  readonly choices: { readonly [C in Choice]?: { readonly does: string; readonly risks: string } };
  /** The other host was off since; `answer`: what follows once no other host has the guest. */
  readonly fenced?: { readonly fence: string; readonly answer: Choice };
}

const GOES_ON: Dilemma = { proves: 'The migration is still going on.', choices: {} };
const NOTHING_OPEN: Dilemma = { proves: 'Nothing of the migration is open.', choices: {} };

const SOURCE: { readonly [S in SourceStateName]?: Dilemma } = {
  committed: {
    proves:
      'The guest is suspended here with all its memory. The destination was allowed to run it, and may or may not have begun to.',
    choices: {
      'keep-here': {
        does: 'The guest runs on here, from the moment at which it was suspended.',
        risks:
          'If the destination runs it too, there are two of it until that host is back: then its copy is suspended.',
      },
      'give-up': {
        does: 'The copy here is destroyed.',
        risks: 'If the destination lost its copy, the guest is lost.',
      },
    },
  },
  released: {
    proves:
      'The destination has run the guest; its copy here is gone. Only its thanks are missing.',
    choices: { 'give-up': { does: 'Stops telling the destination.', risks: 'Nothing.' } },
  },
  aborted: {
    proves: 'The guest runs here. The destination has not confirmed yet that it gave its copy up.',
    choices: {
      'keep-here': {
        does: 'Stops telling the destination; the guest runs on here.',
        risks:
          'If the destination has a copy, it stays there until somebody decides about it there; if it runs, there are two.',
      },
    },
  },
  superseded: {
    proves:
      'A person decided at the destination that the guest runs there. The copy here is suspended.',
    choices: {
      'keep-here': {
        does: 'The guest runs on here all the same.',
        risks: 'If the destination runs it, there are two.',
      },
      'give-up': {
        does: 'The copy here is destroyed.',
        risks: 'What the guest has done here since the migration is lost.',
      },
    },
  },
};

const DESTINATION: { readonly [S in DestinationStateName]?: Dilemma } = {
  prepared: {
    proves:
      'The guest is here with all its memory, suspended; it has never run here. Whether the source runs it again or gave it away, only the source knows.',
    choices: {
      'keep-here': {
        does: 'The guest runs here.',
        risks:
          'If the source runs it too, there are two of it until that host is back: then its copy is suspended.',
      },
      'give-up': {
        does: 'The copy here is destroyed.',
        risks: 'If the source lost its copy, the guest is lost.',
      },
    },
  },
  running: {
    proves:
      'The guest was given to this host. The source has not confirmed yet that its copy is gone.',
    choices: {
      'keep-here': {
        does: 'Stops waiting for the source; the guest runs on here.',
        risks:
          'If the source has a copy, it stays there until somebody decides about it there; if it runs, there are two.',
      },
      'give-up': {
        does: 'Only when the guest is gone from this host: the source runs it on from its suspension.',
        risks: 'If the guest has run here before it went, what it did here is lost.',
      },
    },
  },
  refused: {
    proves: 'The copy here is gone and never ran. The source may not know that yet.',
    choices: {
      'give-up': {
        does: 'Stops waiting for the source.',
        risks: 'A source that was not told keeps the guest suspended until somebody decides there.',
      },
    },
  },
  superseded: {
    proves: 'A person decided at the source that the guest runs there. The copy here is suspended.',
    choices: {
      'keep-here': {
        does: 'The guest runs on here all the same.',
        risks: 'If the source runs it, there are two.',
      },
      'give-up': {
        does: 'The copy here is destroyed.',
        risks: 'What the guest has done here since the migration is lost.',
      },
    },
  },
};

export function sourceDilemma(state: SourceStateName): Dilemma {
  return SOURCE[state] ?? (state === 'ended' ? NOTHING_OPEN : GOES_ON);
}

export function destinationDilemma(state: DestinationStateName): Dilemma {
  return DESTINATION[state] ?? (state === 'ended' ? NOTHING_OPEN : GOES_ON);
}

/** @throws GodwitError too-late when the choice is not open */
export function checkChoice(dilemma: Dilemma, choice: Choice): void {
  if (dilemma.choices[choice] !== undefined) return;
  const open = Object.keys(dilemma.choices).map((name) => `--${name}`);
  const what =
    open.length === 0 ? 'there is nothing to decide' : `only ${open.join(' or ')} is open`;
  throw new GodwitError('too-late', `${dilemma.proves} So ${what}`);
}

/** The reason that a decision leaves in journal, ledger and log. */
export function decided(choice: Choice, by: string): GodwitError {
  return new GodwitError('resolved', `${by} decided: --${choice}`);
}
