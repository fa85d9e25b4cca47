import { expect, test } from 'vitest';
import { standing } from '../../lib/migration/standing.ts';
import { DESTINATION_STATES } from '../../lib/ownership/destination-machine.ts';
import { SOURCE_STATES } from '../../lib/ownership/source-machine.ts';

/** All that is said of every state, to be read as a whole. */
test('who has the guest, in each state of either side', () => {
  const said = (role: 'send' | 'receive', states: readonly string[]) =>
    states
      .filter((ownership) => ownership !== 'ended')
      .map((ownership) => {
        const view = { role, ownership, guestState: undefined };
        const open = standing({ ...view, phase: 'recovery' });
        const ended = standing({ ...view, phase: 'ended' });
        return `${ownership}: ${open}${open === ended ? '' : `\n  ended: ${ended}`}`;
      })
      .join('\n');
  expect(said('send', SOURCE_STATES)).toMatchInlineSnapshot(`
    "precopy: the guest runs here
    suspended: the guest is suspended here, and any trouble resumes it
    committed: the guest is suspended here; the destination may run it, and has to say whether it does
    aborted: the guest runs here; the destination may still have to hear so
      ended: the guest runs here
    released: the guest runs at its destination; the copy here goes
      ended: the guest runs at its destination; the copy here is gone
    superseded: the copy here is stopped: a person decided at the destination that the guest runs there
      ended: the copy here was given up: a person decided at the destination that the guest runs there"
  `);
  expect(said('receive', DESTINATION_STATES)).toMatchInlineSnapshot(`
    "receiving: the guest is at its source; its memory arrives here
      ended: the guest is at its source; the copy here is gone
    prepared: the guest is here with all its memory, and runs only when the source says so
    running: the guest runs here; the source may still have to confirm that its copy is gone
      ended: the guest runs here
    refused: the copy here goes and never ran; the source may still have to hear so
      ended: the copy here is gone and never ran
    discarded: the guest is at its source; the copy here goes
      ended: the guest is at its source; the copy here is gone
    superseded: the copy here is stopped: a person decided at the source that the guest runs there
      ended: the copy here was given up: a person decided at the source that the guest runs there"
  `);
});

test('a guest that stands is not said to run', () => {
  const guestState = 'is stopped by an I/O error';
  const here = { role: 'receive', phase: 'ended', ownership: 'running', guestState } as const;
  expect(standing(here)).toBe('the guest is stopped by an I/O error here');
  const moved = { role: 'send', phase: 'ended', ownership: 'released', guestState } as const;
  expect(standing(moved)).toMatch(/^the guest is stopped by an I\/O error at its destination/);
});

test('nothing is said before there is anything to hand over, or of a state that is not known', () => {
  const view = { role: 'send', phase: 'connecting', guestState: undefined } as const;
  expect(standing({ ...view, ownership: undefined })).toBeUndefined();
  expect(standing({ ...view, ownership: 'constructor' })).toBeUndefined();
});
