import { describe, expect, test } from 'vitest';
import { GodwitError } from '../../lib/errors.ts';
import {
  DESTINATION_MACHINE,
  type DestinationEvent,
  type DestinationState,
  type DestinationStateName,
} from '../../lib/ownership/destination-machine.ts';
import { Driver, type DriverHooks, type Settling } from '../../lib/ownership/driver.ts';
import type { Tenure } from '../../lib/ownership/guest-record.ts';
import { JournalDoubt } from '../../lib/ownership/journal/journal.ts';
import {
  type Copy,
  DESTINATION_OBLIGATIONS,
  type Known,
  SOURCE_OBLIGATIONS,
} from '../../lib/ownership/obligations.ts';
import {
  SOURCE_MACHINE,
  type SourceEvent,
  type SourceState,
  type SourceStateName,
} from '../../lib/ownership/source-machine.ts';

const error = new GodwitError('cancelled', 'because');
const failed = () => new GodwitError('journal-failed', 'disk full');
const doubt = () => new JournalDoubt('nobody knows', undefined);

/** A driver of the source with everything around it, and what it did in the order in which it did. */
class Stage {
  readonly done: string[] = [];
  readonly timers: { ms: number; fire: () => void }[] = [];
  readonly logged: string[] = [];
  state: 'running' | 'paused' = 'paused';
  write: () => Promise<void> = async () => {};
  copy: () => Promise<Copy> = async () => this.found();
  resume = async () => {
    this.done.push('resume');
    this.state = 'running';
    return this.state;
  };
  /** What is kept of the guest here is to be changed. */
  definition: (state: { readonly name: string; readonly told: boolean }) => Settling | undefined =
    () => undefined;
  known: Known = { runState: 'running', hasRun: true };
  tenure: Tenure = {
    epoch: 1,
    owns: true,
    hold: async () => true,
    raise: async (epoch) => void this.done.push(`raise ${epoch}`),
    rest: async () => void this.done.push('rest'),
    leave: () => void this.done.push('leave'),
  };

  found(): Copy {
    return {
      state: async () => this.state,
      suspend: async () => 'paused',
      resume: () => this.resume(),
      destroy: async () => void this.done.push('destroy'),
    };
  }

  driver(name: SourceStateName, held = false): Driver<SourceStateName, SourceEvent> {
    const state: SourceState = { name, epoch: 1, told: false };
    const hooks = this.#hooks((of: SourceStateName) => SOURCE_OBLIGATIONS[of]);
    const { tenure } = this;
    return new Driver(SOURCE_MACHINE, { state, held, tenure, error: undefined }, hooks);
  }

  destination(name: DestinationStateName): Driver<DestinationStateName, DestinationEvent> {
    const state: DestinationState = { name, epoch: 1, told: false };
    const hooks = this.#hooks((of: DestinationStateName) => DESTINATION_OBLIGATIONS[of]);
    const { tenure } = this;
    return new Driver(DESTINATION_MACHINE, { state, held: false, tenure, error: undefined }, hooks);
  }

  #hooks<Name extends string>(obligation: DriverHooks<Name>['obligation']): DriverHooks<Name> {
    return {
      write: async (state, holds) => {
        await this.write();
        this.done.push(`journal ${state.name} ${state.epoch}${holds ? ' held' : ''}`);
      },
      copy: () => this.copy(),
      forget: () => void this.done.push('forget'),
      known: () => this.known,
      obligation,
      definition: (state) => this.definition?.(state),
      perform: (act) => void this.done.push(act.type),
      say: (state) => void this.done.push(`say ${state.withdrawn ? 'withdraw' : state.name}`),
      report: (moved) => void this.done.push(`report ${moved}`),
      holds: (_, standing) => void this.done.push(`holds: ${standing}`),
      changed: () => {},
      log: (_, text) => void this.logged.push(text),
      fault: () => {},
      after: (ms, fire) => {
        const timer = { ms, fire };
        this.timers.push(timer);
        return () => void this.timers.splice(this.timers.indexOf(timer), 1);
      },
    };
  }

  /** The clock reaches the only timer there is. */
  async pass(driver: { idle(): Promise<void> }): Promise<number> {
    expect(this.timers).toHaveLength(1);
    const [timer] = this.timers.splice(0);
    timer!.fire();
    await driver.idle();
    return timer!.ms;
  }
}

describe('the order', () => {
  test('a gate is written first, and what fails to be written leads elsewhere', async () => {
    const stage = new Stage();
    const driver = stage.driver('precopy');
    stage.write = async () => {
      throw failed();
    };
    await driver.dispatch({ type: 'suspend' });
    expect(driver.state.name).toBe('aborted');
    expect(stage.done).not.toContain('suspend-guest');
  });

  test('the guest comes first when a migration is aborted, and the word last', async () => {
    const stage = new Stage();
    await stage.driver('suspended').dispatch({ type: 'abort', error });
    expect(stage.done).toEqual([
      ...['resume', 'holds: running', 'report false', 'journal aborted 1 held'],
      ...['rest', 'say aborted'],
    ]);
  });

  test('a copy goes after its record', async () => {
    const stage = new Stage();
    await stage.driver('committed').dispatch({ type: 'running', epoch: 1 });
    expect(stage.done).toEqual([
      ...['journal released 1', 'destroy', 'holds: gone', 'report true'],
      ...['journal released 1 held', 'rest', 'say released'],
    ]);
  });

  test('what is kept of the guest goes when the other side has it: until then nobody else begins', async () => {
    const stage = new Stage();
    let fails = true;
    const settle = async () => {
      if (fails) throw new GodwitError('hypervisor-failed', 'it is locked');
      stage.done.push('undefine');
    };
    const asked = { act: 'undefine-guest', words: 'its definition to go' } as const;
    stage.definition = ({ name, told }) =>
      name === 'released' ? { ...asked, settle: told ? settle : undefined } : undefined;
    const driver = stage.driver('committed');
    await driver.dispatch({ type: 'running', epoch: 1 });
    expect(stage.done.slice(-2)).toEqual(['journal released 1 held', 'say released']);
    await driver.dispatch({ type: 'closed', epoch: 1 });
    expect([driver.state.name, driver.rests]).toEqual(['released', false]);
    expect(driver.waiting?.message).toBe('its definition to go: it is locked');
    fails = false;
    await stage.pass(driver);
    expect(stage.done.slice(-4)).toEqual(['undefine', 'rest', 'journal ended 1 held', 'say ended']);
    expect(driver.waiting).toBeUndefined();
  });

  test('what is to be kept of a guest that has come is made after it runs and that is said', async () => {
    const stage = new Stage();
    const settle = async () => void stage.done.push('define');
    const asked = { act: 'define-guest', words: 'its definition to be made', settle } as const;
    stage.definition = ({ name }) => (name === 'running' ? asked : undefined);
    await stage.destination('prepared').dispatch({ type: 'commit', epoch: 1 });
    expect(stage.done).toEqual([
      ...['journal running 1', 'resume', 'holds: running', 'report true', 'journal running 1 held'],
      ...['say running', 'define', 'rest'],
    ]);
  });

  test('what is kept of a guest that a newer migration has is left to that one', async () => {
    const stage = new Stage();
    stage.tenure = { ...stage.tenure, hold: async () => false };
    const settle = async () => void stage.done.push('define');
    stage.definition = () => ({ act: 'define-guest', words: '', settle });
    await stage.destination('prepared').dispatch({ type: 'commit', epoch: 1 });
    expect(stage.done).not.toContain('define');
  });

  test('a later decision is in the record of the host before it is in the journal', async () => {
    const stage = new Stage();
    await stage.driver('committed').dispatch({ type: 'keep-here', error });
    expect(stage.done.slice(0, 3)).toEqual(['raise 2', 'journal aborted 2', 'resume']);
  });

  test('a commit in doubt is not said: the guest is asked back', async () => {
    const stage = new Stage();
    const driver = stage.driver('suspended');
    let writes = 0;
    stage.write = async () => {
      if (++writes === 1) throw doubt();
    };
    await driver.dispatch({ type: 'sealed', late: undefined });
    expect(driver.state).toMatchObject({
      name: 'committed',
      withdrawn: { code: 'journal-failed' },
    });
    expect(stage.done).toEqual(['journal committed 1 held', 'say withdraw']);
  });

  test('a decision whose record is in doubt is refused, and a record of what counts follows', async () => {
    const stage = new Stage();
    const driver = stage.driver('committed');
    let writes = 0;
    stage.write = async () => {
      if (++writes === 1) throw doubt();
    };
    await expect(driver.dispatch({ type: 'give-up', error })).rejects.toMatchObject({
      code: 'journal-failed',
    });
    expect(driver.state.name).toBe('committed');
    expect(stage.done).not.toContain('destroy');
    await stage.pass(driver);
    expect(stage.done.at(-1)).toBe('journal committed 1 held');
  });

  test('a running record in doubt: no copy goes that may be found as running', async () => {
    const stage = new Stage();
    stage.known = { runState: 'running', hasRun: false };
    const driver = stage.destination('prepared');
    let writes = 0;
    stage.write = async () => {
      if (++writes <= 2) throw doubt();
    };
    await driver.dispatch({ type: 'commit', epoch: 1 });
    expect(driver.state.name).toBe('refused');
    expect(stage.done).not.toContain('destroy');
    expect(stage.done).not.toContain('say refused');
    await stage.pass(driver);
    expect(stage.done.slice(-6)).toEqual([
      ...['journal refused 1', 'destroy', 'holds: gone', 'say refused'],
      ...['journal refused 1 held', 'rest'],
    ]);
  });

  test('a running record that failed: the copy goes, and that is said, without a disk', async () => {
    const stage = new Stage();
    const driver = stage.destination('prepared');
    stage.write = async () => {
      throw failed();
    };
    await driver.dispatch({ type: 'commit', epoch: 1 });
    expect(stage.done).toEqual(['destroy', 'holds: gone', 'report false', 'say refused']);
  });

  test('an epoch before the offered one is refused', async () => {
    const driver = new Stage().driver('precopy');
    await driver.adopt(3);
    expect(driver.state.epoch).toBe(3);
    await expect(driver.adopt(2)).rejects.toMatchObject({ code: 'bad-message' });
    expect(driver.state.epoch).toBe(3);
  });
});

describe('what cannot be had at once', () => {
  test('is tried again with growing pauses, and nothing is said before', async () => {
    const stage = new Stage();
    const driver = stage.driver('suspended');
    stage.copy = async () => {
      throw new GodwitError('not-seen', 'no such guest');
    };
    await driver.dispatch({ type: 'abort', error });
    const pauses: number[] = [];
    for (let i = 0; i < 8; i++) pauses.push(await stage.pass(driver));
    expect(pauses).toEqual([250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
    expect(driver.waiting).toMatchObject({
      code: 'not-seen',
      message: 'the guest to run on here: no such guest',
    });
    expect(stage.logged.filter((text) => text.startsWith('waits for'))).toHaveLength(1);
    expect(stage.done).not.toContain('say aborted');
    stage.copy = async () => stage.found();
    await stage.pass(driver);
    expect(stage.done.slice(-4)).toEqual([
      ...['holds: running', 'journal aborted 1 held', 'rest', 'say aborted'],
    ]);
    expect(driver.waiting).toBeUndefined();
    expect(stage.timers).toEqual([]);
  });

  test('includes the end: it comes when it is told, holds, and is written', async () => {
    const stage = new Stage();
    const driver = stage.driver('aborted');
    stage.write = async () => {
      throw failed();
    };
    await driver.dispatch({ type: 'closed', epoch: 1 });
    expect(driver.state.name).toBe('aborted');
    expect(stage.done).toEqual(['resume', 'holds: running']); // a dead disk does not keep the guest
    stage.write = async () => {};
    await stage.pass(driver);
    expect(driver.state.name).toBe('ended');
  });

  test('is not done to a guest that a newer migration has', async () => {
    const stage = new Stage();
    stage.tenure = { ...stage.tenure, owns: false, hold: async () => false };
    await stage.driver('aborted').dispatch({ type: 'closed', epoch: 1 });
    expect(stage.done).not.toContain('resume');
    expect(stage.done).toContain('journal ended 1 held');
  });
});

describe('an attempt that takes too long', () => {
  /** Between looking and acting the attempt hangs. */
  function hanging(stage: Stage) {
    const looked = Promise.withResolvers<void>();
    stage.copy = async () => {
      await looked.promise;
      return stage.found();
    };
    return looked;
  }

  test('is given up, and acts no more when it goes on', async () => {
    const stage = new Stage();
    const driver = stage.driver('aborted');
    const looked = hanging(stage);
    const dispatched = driver.dispatch({ type: 'restart', error });
    await new Promise(setImmediate);
    expect(stage.timers[0]!.ms).toBe(15_000);
    stage.timers[0]!.fire();
    await dispatched;
    expect(driver.waiting?.code).toBe('not-seen');
    looked.resolve();
    await new Promise(setImmediate);
    expect(stage.done).toEqual(['forget']);
  });

  test('acts no more when the agent has stopped', async () => {
    const stage = new Stage();
    const driver = stage.driver('aborted');
    const looked = hanging(stage);
    driver.dispatch({ type: 'restart', error }).catch(() => {});
    await new Promise(setImmediate);
    driver.stop();
    looked.resolve();
    await new Promise(setImmediate);
    expect(stage.done).not.toContain('resume');
    await driver.dispatch({ type: 'abort', error });
    expect(stage.done.filter((what) => what !== 'forget')).toEqual(['leave']);
  });
});

test('a side at rest makes sure of the guest before it stands down', async () => {
  const stage = new Stage();
  const later: SourceEvent = { type: 'recovered', epoch: 2, state: 'running' };
  const driver = stage.driver('aborted', true);
  stage.tenure.hold = async () => {
    throw new GodwitError('guest-busy', 'somebody is beginning');
  };
  await expect(driver.dispatch(later)).rejects.toMatchObject({ code: 'guest-busy' });
  expect(driver.state.name).toBe('aborted'); // the destination asks again
  stage.tenure.hold = async () => false; // a newer one has it now
  await driver.dispatch(later);
  expect(driver.state).toMatchObject({ name: 'aborted', epoch: 2 });
  expect(stage.done).not.toContain('journal superseded 2');
});
