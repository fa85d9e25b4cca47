import { afterEach, expect, test, vi } from 'vitest';
import { Agent } from '../../lib/daemon/agent.ts';
import { GodwitError } from '../../lib/errors.ts';
import type { MigrationView } from '../../lib/migration/view.ts';
import {
  type Choice,
  type Dilemma,
  destinationDilemma,
  sourceDilemma,
} from '../../lib/ownership/decision.ts';
import { aView, ended } from '../api/fake-backend.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

/** An agent with one migration that waits for a person. */
class Stuck extends Agent<ReturnType<typeof stuckMigration>> {
  override readonly role = 'send';
  protected override recoverOne(): void {}
  override figures(): never {
    throw new Error('nobody asks');
  }

  constructor(refusal?: GodwitError, shown = stuckMigration(refusal)) {
    const places = { hostDir: '/nowhere', ramDir: '/nowhere', clusterNodes: new Map() };
    super(undefined as never, undefined as never, places); // asked for nothing here
    this.registry.add(shown);
  }
}

/** One of which nothing waits for a person any more. */
function without(dilemma: Dilemma, view: MigrationView) {
  const shown = stuckMigration(undefined);
  return new Stuck(undefined, {
    ...shown,
    view: () => view,
    handover: { ...shown.handover, dilemma },
  });
}

const decisions: unknown[] = [];

function stuckMigration(refusal: GodwitError | undefined) {
  const { id } = aView();
  return {
    id,
    view: () => aView({ phase: 'handover', waitsFor: 'the word of hostb' }),
    cancel: () => {},
    handover: {
      state: { name: 'committed' as const },
      recordedMs: 0,
      memoryOnly: async () => false,
      stop: () => {},
      dilemma: sourceDilemma('committed'),
      resolve: async (choice: Choice, by: string) => {
        if (refusal) throw refusal;
        decisions.push([choice, by]);
      },
    },
  };
}

function logged(): string[] {
  const lines: string[] = [];
  vi.spyOn(process.stderr, 'write').mockImplementation((line) => lines.push(String(line)) > 0);
  return lines;
}

test('a decision is logged with who made it and what made it necessary', async () => {
  const lines = logged();
  await new Stuck().resolve('4f2a', 'keep-here', 'ann (as root)');
  expect(decisions).toEqual([['keep-here', 'ann (as root)']]);
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatch(
    / warn \[4f2a0+1 vm1\] ann \(as root\) decides --keep-here\. The guest is suspended here .* It waited for the word of hostb\.\n$/,
  );
});

test('and so is one that fails, with why', async () => {
  const lines = logged();
  const refusal = new GodwitError('guest-died', 'the guest is gone from this host');
  const decided = new Stuck(refusal).resolve('4f2a', 'give-up', 'ann');
  await expect(decided).rejects.toBe(refusal);
  expect(lines.at(-1)).toContain('what ann decided fails: the guest is gone from this host');
});

test('of what has ended there is nothing to decide: how it ended is said', () => {
  const proved = (dilemma: Dilemma, view: MigrationView) => {
    const agent = without(dilemma, view);
    return agent.dilemma(view.id);
  };
  const released = { ownership: 'released' } as const;
  expect(proved(sourceDilemma('ended'), ended('completed', released))).toEqual({
    proves:
      'The migration has ended, completed. The guest runs at its destination; the copy here is gone.',
    choices: {},
  });
  const why = { message: 'it dirties too fast', ownership: 'aborted' } as const;
  expect(proved(sourceDilemma('ended'), ended('aborted', why)).proves).toBe(
    'The migration has ended, aborted by policy: it dirties too fast. The guest runs here.',
  );
  const early = { role: 'receive', message: 'no room' } as const;
  expect(proved(destinationDilemma('ended'), ended('failed', early)).proves).toBe(
    'The migration has ended, failed: no room.',
  );
});

test('what goes on says so, and what a person may still end is not over', () => {
  expect(without(sourceDilemma('precopy'), aView()).dilemma('4f2a').proves).toBe(
    'The migration is still going on.',
  );
  const thanks = sourceDilemma('released');
  const over = ended('completed', { ownership: 'released' });
  expect(without(thanks, over).dilemma('4f2a')).toEqual(thanks);
});
