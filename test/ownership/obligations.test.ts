import { describe, expect, test } from 'vitest';
import { GodwitError } from '../../lib/errors.ts';
import type { RunState } from '../../lib/guest/run-state.ts';
import {
  type Copy,
  DESTINATION_OBLIGATIONS,
  type Known,
  type Obligation,
  SOURCE_OBLIGATIONS,
} from '../../lib/ownership/obligations.ts';

/** A copy in that state that does what it is told, and notes it. */
function copyIn(state: RunState | 'gone', done: string[], afterResume: RunState = 'running'): Copy {
  if (state === 'gone') return state;
  let now = state;
  return {
    state: async () => now,
    suspend: async () => {
      done.push('suspend');
      now = 'paused';
      return now;
    },
    resume: async () => {
      done.push('resume');
      now = afterResume;
      return now;
    },
    destroy: async () => void done.push('destroy'),
  };
}

async function outcome(
  obligation: Obligation,
  state: RunState | 'gone',
  known: Partial<Known> = {},
  afterResume?: RunState,
): Promise<string> {
  const done: string[] = [];
  const end = await obligation
    .establish(copyIn(state, done, afterResume), { runState: 'running', hasRun: false, ...known })
    .catch((error: GodwitError) => `! ${error.code}`);
  return [...done, end].join(' ');
}

const ALL = [
  ...(['running', 'paused', 'migrated', 'incoming', 'io-error', 'panicked'] as const),
  ...(['shut-down', 'watchdog', 'debug', 'asleep', 'internal-error', 'gone'] as const),
];
const [aborted, released, stopped] = [
  SOURCE_OBLIGATIONS.aborted!,
  SOURCE_OBLIGATIONS.released!,
  SOURCE_OBLIGATIONS.superseded!,
];
const running = DESTINATION_OBLIGATIONS.running!;

describe('aborted: the guest runs on at its source', () => {
  test('only what an agent had stopped is resumed', async () => {
    for (const state of ALL) {
      const resumes = state === 'paused' || state === 'migrated';
      expect(await outcome(aborted, state), state).toBe(resumes ? 'resume running' : state);
    }
  });

  test('a guest that was paused by somebody else stays so', async () => {
    for (const runState of ['paused', undefined] as const)
      for (const state of ALL)
        expect(await outcome(aborted, state, { runState }), state).toBe(state);
  });

  test('a guest that stops for a reason of its own once it was resumed has run', async () => {
    expect(await outcome(aborted, 'paused', {}, 'io-error')).toBe('resume io-error');
    // Somebody else wants it so.
    expect(await outcome(aborted, 'paused', {}, 'paused')).toBe('resume paused');
  });
});

describe('running: the guest runs at its destination', () => {
  test('a copy that stands for a reason of its own has run, and one without its state cannot', async () => {
    for (const state of ALL.filter((each) => each !== 'gone')) {
      const resumes = state === 'paused' || state === 'migrated';
      const expected =
        state === 'incoming' ? '! hypervisor-failed' : resumes ? 'resume running' : state;
      expect(await outcome(running, state), state).toBe(expected);
    }
  });

  test('a guest that was paused arrives paused', async () => {
    expect(await outcome(running, 'paused', { runState: 'paused' })).toBe('paused');
  });

  test('a copy that is gone has never run, has run, or nobody knows', async () => {
    expect(await outcome(running, 'gone', { hasRun: false })).toBe('! not-started');
    expect(await outcome(running, 'gone', { hasRun: true })).toBe('gone');
    expect(await outcome(running, 'gone', { hasRun: undefined })).toBe('! outcome-unknown');
  });
});

test('superseded: what runs is stopped, and what stands is left alone', async () => {
  expect(DESTINATION_OBLIGATIONS.superseded).toBe(stopped);
  for (const state of ALL)
    expect(await outcome(stopped, state), state).toBe(
      state === 'running' ? 'suspend paused' : state,
    );
});

test('a copy that is told to stop and runs is not stopped', async () => {
  const deaf: Copy = {
    ...(copyIn('running', []) as Exclude<Copy, 'gone'>),
    suspend: async () => 'running',
  };
  await expect(
    stopped.establish(deaf, { runState: 'running', hasRun: true }),
  ).rejects.toMatchObject({ code: 'hypervisor-failed' });
});

test('released, refused, discarded: the copy is gone, in whatever state it was', async () => {
  const { refused, discarded } = DESTINATION_OBLIGATIONS;
  for (const obligation of [released, refused!, discarded!])
    for (const state of ALL)
      expect(await outcome(obligation, state)).toBe(state === 'gone' ? state : 'destroy gone');
});

test('what the hypervisor rejects with is handed on', async () => {
  const failing: Copy = {
    ...(copyIn('paused', []) as Exclude<Copy, 'gone'>),
    destroy: async () => {
      throw new GodwitError('hypervisor-failed', 'it does not die');
    },
    resume: async () => {
      throw new GodwitError('not-started', 'it does not start');
    },
  };
  const known = { runState: 'running', hasRun: false } as const;
  await expect(released.establish(failing, known)).rejects.toThrow('does not die');
  await expect(running.establish(failing, known)).rejects.toMatchObject({ code: 'not-started' });
});
