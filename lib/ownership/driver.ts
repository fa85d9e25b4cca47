import { asGodwitError, GodwitError } from '../errors.ts';
import { type AttemptHooks, Attempts } from './attempt.ts';
import type { Tenure } from './guest-record.ts';
import { JournalDoubt } from './journal/journal.ts';
import type { Act, CommonEvent, Machine, State, Step } from './machine.ts';
import type { Obligation, Standing } from './obligations.ts';

/** Pauses between two attempts at what does not hold, ms: the first, and where they stop growing. */
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 10_000;

export interface DriverHooks<Name extends string> extends AttemptHooks {
  /** Resolves when the record is durable. @throws GodwitError journal-failed, JournalDoubt */
  readonly write: (state: State<Name>, held: boolean, error?: GodwitError) => Promise<void>;
  /** The attempt to establish an obligation failed: what was at hand may be of no use any more. */
  readonly forget: () => void;
  /** May be undefined in states that demand nothing of the copy. */
  readonly obligation: (name: Name) => Obligation | undefined;
  /** What the state asks for besides, once its obligation holds; mostly nothing. */
  readonly definition: (state: State<Name>) => Settling | undefined;
  /** Does one act; what it rejects with is what `dispatch` rejects with. */
  readonly perform: (act: Exclude<Act, { type: 'say' }>) => void | Promise<void>;
  /** Says what the state has to say, if there is anybody to say it to; never rejects. */
  readonly say: (state: State<Name>, error: GodwitError | undefined) => void | Promise<void>;
  readonly report: (moved: boolean, error: GodwitError | undefined) => void;
  /** The obligation holds, for the first time: how the copy stands. */
  readonly holds: (state: State<Name>, standing: Standing) => void;
  /** State, standing or what is waited for is new. */
  readonly changed: () => void;
  readonly log: (level: 'info' | 'warn' | 'error', text: string) => void;
  /** For tests that stop the process right there. */
  readonly fault: (place: string) => void;
}

/** What is to become of what this host keeps of the guest besides its copy. */
export interface Settling {
  /** What the fault point of the act is called. */
  readonly act: 'define-guest' | 'undefine-guest';
  /** For whoever waits for it. */
  readonly words: string;
  /** Harmless when it was done before; undefined: the other side has to be heard first. */
  readonly settle: (() => Promise<void>) | undefined;
}

export interface DriverStart<Name extends string> {
  readonly state: State<Name>;
  /** The obligation of that state held already. */
  readonly held: boolean;
  readonly tenure: Tenure;
  /** Why it is what it is. */
  readonly error: GodwitError | undefined;
}

/**
 * Runs a handover machine: one event at a time. What an event leads to is made durable, done and said
 * in this order; what cannot be had at once is owed, and tried again with growing pauses until it is:
 * a record, the obligation of the state, the word to the other side, the end.
 */
export class Driver<
  Name extends string,
  Event extends { readonly type: string; readonly error?: unknown },
> {
  readonly #machine: Machine<Name, Event>;
  readonly #hooks: DriverHooks<Name>;
  readonly #tenure: Tenure;
  readonly #attempts: Attempts;
  #state: State<Name>;
  #error: GodwitError | undefined;
  /** The newest record says this state and `held`. */
  #written: boolean;
  /** The record may say a state that allows what is not wanted any more. */
  #inDoubt = false;
  #held: boolean;
  #standing: Standing | undefined;
  #rests = false;
  /** What this host keeps of the guest is as the state has it. */
  #settled = false;
  /** As the guest's record has it. */
  #epoch: number;
  #mustSay = false;
  #pauseMs = FIRST_PAUSE_MS;
  #waiting: GodwitError | undefined;
  #cancelRetry: (() => void) | undefined;
  #stopped = false;
  #tail: Promise<void> = Promise.resolve();

  /** `start` is in the journal already. */
  constructor(machine: Machine<Name, Event>, start: DriverStart<Name>, hooks: DriverHooks<Name>) {
    this.#machine = machine;
    this.#hooks = hooks;
    this.#state = start.state;
    this.#epoch = start.state.epoch;
    this.#tenure = start.tenure;
    this.#attempts = new Attempts(hooks);
    this.#error = start.error;
    this.#written = true;
    this.#held = start.held || hooks.obligation(start.state.name) === undefined;
  }

  get state(): State<Name> {
    return this.#state;
  }

  /** Why the state is what it is. */
  get error(): GodwitError | undefined {
    return this.#error;
  }

  /** What the state demands of the copy holds. */
  get held(): boolean {
    return this.#held;
  }

  /** How the copy stands here; undefined while the obligation does not hold or nothing is demanded. */
  get standing(): Standing | undefined {
    return this.#standing;
  }

  /** Why what is owed could not be had, while it is tried again. */
  get waiting(): GodwitError | undefined {
    return this.#waiting;
  }

  /** What the state demands of the copy here, as long as that does not hold. */
  get owes(): Obligation | undefined {
    return this.#held ? undefined : this.#hooks.obligation(this.#state.name);
  }

  /** Nothing is left to be done to the copy, and that is written. */
  get rests(): boolean {
    return this.#rests;
  }

  /**
   * Takes the event when those before it are through. Resolves when it is; rejects with what kept an
   * act of it from being done. What is owed afterwards does not count.
   */
  dispatch(event: Event): Promise<void> {
    return this.#queue(() => this.#take(event));
  }

  /** Another epoch was agreed on before anything rests on the first. @throws GodwitError bad-message, journal-failed */
  adopt(epoch: number): Promise<void> {
    return this.#queue(async () => {
      if (epoch === this.#state.epoch) return;
      if (epoch < this.#state.epoch) throw earlier(epoch, this.#state.epoch);
      const state = { ...this.#state, epoch };
      await this.#write(state, this.#held, this.#error);
      this.#state = state;
    });
  }

  /** Resolves when everything dispatched so far is through. */
  idle(): Promise<void> {
    return this.#tail;
  }

  /** The agent stops: what is owed is in the journal. */
  stop(): void {
    this.#stopped = true;
    this.#attempts.callOff(); // what it is about to do to the copy is the next run's
    this.#cancelRetry?.();
    this.#tenure.leave();
  }

  #queue(work: () => Promise<void>): Promise<void> {
    const done = this.#tail.then(() => (this.#stopped ? undefined : work()));
    this.#tail = done.catch(() => {});
    return done;
  }

  async #take(event: Event): Promise<void> {
    const step = await this.#step(event);
    if (isMove(this.#state, step)) {
      if (!(await this.#move(step, event))) return; // it has led elsewhere
    } else {
      this.#state = step.state;
      if (step.error) this.#hooks.log('error', step.error.message);
    }
    if (step.acts.some(({ type }) => type === 'say')) this.#mustSay = true;
    let failure: unknown;
    try {
      for (const act of step.acts)
        if (act.type !== 'say') await this.#between(act.type, () => this.#hooks.perform(act));
    } catch (error) {
      failure = error; // what would have followed may rest on it
    }
    const { report } = step;
    await this.#progress(() => report && this.#hooks.report(report.moved, report.error));
    if (failure !== undefined) throw failure;
  }

  /** What wakes from rest, or is decided, is only for who has the guest for certain, and keeps it. */
  async #step(event: Event): Promise<Step<Name>> {
    const { step, atRest } = this.#machine;
    const taken = step(this.#state, event, this.#tenure.owns);
    const wakes = atRest.includes(this.#state.name) && !atRest.includes(taken.state.name);
    const moves = isDecision(event) && isMove(this.#state, taken);
    if (!(wakes || moves) || (await this.#tenure.hold())) return taken;
    return step(this.#state, event, false);
  }

  /** Goes over to another state. False when the event has led to another one than the step's. */
  async #move({ state, error }: Step<Name>, event: Event): Promise<boolean> {
    const decided = isDecision(event);
    const isGate = this.#machine.gates.includes(state.name);
    if (!decided && !isGate) {
      this.#enter(state, error);
      return true;
    }
    try {
      await this.#write(state, this.#hooks.obligation(state.name) === undefined, error);
      this.#enter(state, error);
      this.#written = true;
      return true;
    } catch (thrown) {
      const failed = asGodwitError(thrown);
      const inDoubt = thrown instanceof JournalDoubt;
      // Whatever the file says now, a later record says where this stands.
      if (inDoubt) this.#written = false;
      this.#inDoubt ||= inDoubt && this.#machine.writtenFirst.includes(state.name);
      if (decided) {
        this.#rests = false; // as it may stand in the record by now
        this.#owe(failed, 'the journal to be written');
        throw failed;
      }
      if (inDoubt && state.name === 'committed') {
        // It may be found: only the destination's word ends it, and it is not told to run.
        this.#enter(state, error);
        await this.#take({ type: 'withdraw', error: failed } as unknown as Event);
      } else await this.#take({ type: 'unwritten', error: failed } as unknown as Event);
      return false;
    }
  }

  #enter(state: State<Name>, error: GodwitError | undefined): void {
    this.#state = state;
    this.#error = error;
    this.#written = false;
    this.#held = this.#hooks.obligation(state.name) === undefined;
    this.#standing = undefined;
    this.#settled = false;
    this.#pauseMs = FIRST_PAUSE_MS;
    this.#hooks.changed();
  }

  /**
   * Gets what is owed, as far as it can be had now: the guest first, since a record or a peer may keep
   * it waiting, unless the record is what allows it, or may allow something else to who finds it
   * (the destination lets go of no copy that may stand there as running); then the record, the word,
   * what the host keeps of the guest, the end.
   */
  async #progress(report: () => void = () => {}): Promise<void> {
    this.#cancelRetry?.();
    this.#cancelRetry = undefined;
    this.#waiting = undefined;
    const { name } = this.#state;
    const recordFirst = this.#inDoubt || this.#machine.writtenFirst.includes(name);
    const mayAct = !recordFirst || (await this.#tryWrite());
    const outcome = mayAct ? await this.#establish() : 'owed';
    // Before anything else tries again: what is true now may not be then.
    if (typeof outcome === 'object')
      return this.#take({ type: 'not-started', error: outcome.never } as unknown as Event);
    report();
    // A copy that is proved gone may be told of although the disk is dead: it can never run.
    if (outcome === 'holds' && this.#standing === 'gone' && name === 'refused') await this.#speak();
    if ((await this.#tryWrite()) && outcome === 'holds' && (await this.#settle())) {
      await this.#rest(); // so that the guest can move on although the other side is away
      await this.#speak();
      await this.#end();
    }
    this.#hooks.changed();
  }

  async #speak(): Promise<void> {
    if (!this.#mustSay) return;
    this.#mustSay = false;
    await this.#hooks.say(this.#state, this.#error);
  }

  async #tryWrite(): Promise<boolean> {
    if (this.#written) return true;
    try {
      await this.#write(this.#state, this.#held, this.#error);
      this.#written = true;
      return true;
    } catch (thrown) {
      this.#owe(thrown, 'the journal to be written');
      return false;
    }
  }

  async #write(state: State<Name>, held: boolean, error: GodwitError | undefined): Promise<void> {
    await this.#between(`journal-${state.name}`, async () => {
      const begins = state.epoch > this.#epoch || (this.#rests && state.name !== 'ended' && !held);
      if (begins && this.#tenure.owns) {
        await this.#tenure.raise(state.epoch);
        this.#rests = false;
      }
      this.#epoch = Math.max(this.#epoch, state.epoch);
      await this.#hooks.write(state, held, error);
      this.#inDoubt = false;
    });
  }

  /** `never`: why the guest has provably never run here. */
  async #establish(): Promise<'holds' | 'owed' | { readonly never: GodwitError }> {
    const { name } = this.#state;
    const obligation = this.#hooks.obligation(name);
    if (this.#held || obligation === undefined) return 'holds';
    try {
      if (!(await this.#tenure.hold())) return this.#superfluous();
      const standing = await this.#between(obligation.act, () =>
        this.#attempts.attempt(obligation),
      );
      this.#held = true;
      this.#written = false; // from now on the record says that it held
      this.#standing = standing;
      this.#hooks.holds(this.#state, standing);
      if (standing === 'gone' && name === 'superseded') this.#tell({ type: 'gone' });
      return 'holds';
    } catch (thrown) {
      const error = asGodwitError(thrown);
      this.#hooks.forget();
      if (error.code === 'not-started' && this.#hooks.known().hasRun === false)
        return { never: error };
      this.#owe(error, obligation.words);
      return 'owed';
    }
  }

  /** A newer migration has the guest: nothing of this one may act on it any more. */
  #superfluous(): 'holds' {
    this.#hooks.log('warn', 'a newer migration has the guest on this host: this one only tells');
    this.#held = true;
    return 'holds';
  }

  /**
   * No other migration of the guest begins before its definition is as it is to be: what is done to it
   * would be done to that one's. False while something is left to be done.
   */
  async #settle(): Promise<boolean> {
    const settling = this.#settled ? undefined : this.#hooks.definition(this.#state);
    if (settling === undefined) return true;
    await this.#speak(); // nobody waits for that
    const { act, words, settle } = settling;
    if (settle === undefined) return false;
    try {
      if (await this.#tenure.hold()) await this.#between(act, settle);
      this.#settled = true;
      return true;
    } catch (thrown) {
      this.#owe(thrown, words);
      return false;
    }
  }

  /** Another migration may have the guest now. A copy that waits for a person is not let go of. */
  async #rest(): Promise<void> {
    if (this.#rests || !this.#machine.atRest.includes(this.#state.name)) return;
    try {
      await this.#between('rest', () => this.#tenure.rest());
      this.#rests = true;
    } catch (thrown) {
      this.#owe(thrown, "the record of the guest's owner to be written");
    }
  }

  async #end(): Promise<void> {
    const { name, told } = this.#state;
    if (!told || !this.#machine.ending.includes(name)) return;
    const ended = { ...this.#state, name: 'ended' as Name };
    try {
      if (!this.#rests) await this.#tenure.rest();
      this.#rests = true;
      await this.#write(ended, true, this.#error);
    } catch (thrown) {
      return this.#owe(thrown, 'the end to be written');
    }
    this.#state = ended;
    this.#written = true;
    this.#mustSay = true;
    await this.#speak();
  }

  /** An event of the driver's own, for after the one that is being taken. */
  #tell(event: CommonEvent): void {
    this.dispatch(event as unknown as Event).catch((error) => {
      this.#hooks.log('error', asGodwitError(error).message);
    });
  }

  /** Tries again by itself, with growing pauses; whoever looks is told why. */
  #owe(thrown: unknown, what: string): void {
    const error = asGodwitError(thrown);
    this.#waiting = new GodwitError(error.code, `${what}: ${error.message}`, { cause: thrown });
    if (this.#pauseMs === FIRST_PAUSE_MS)
      this.#hooks.log('error', `waits for ${this.#waiting.message}`);
    if (this.#stopped || this.#cancelRetry !== undefined) return;
    this.#cancelRetry = this.#hooks.after(this.#pauseMs, () => {
      this.#cancelRetry = undefined;
      this.#queue(() => this.#progress()).catch((error) => {
        this.#hooks.log('error', asGodwitError(error).message);
      });
    });
    this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS);
  }

  async #between<T>(place: string, work: () => T | Promise<T>): Promise<T> {
    // Whoever takes up the journal after this agent must not meet it.
    if (this.#stopped) throw new GodwitError('shutting-down', 'the agent is stopping');
    this.#hooks.fault(`before.${place}`);
    const result = await work();
    this.#hooks.fault(`after.${place}`);
    return result;
  }
}

function isDecision({ type }: { readonly type: string }): boolean {
  return type === 'keep-here' || type === 'give-up';
}

function isMove<Name extends string>(state: State<Name>, step: Step<Name>): boolean {
  return step.state.name !== state.name || step.state.epoch !== state.epoch;
}

function earlier(epoch: number, than: number): GodwitError {
  const text = `the destination has chosen epoch ${epoch}, before ${than}, which it was offered`;
  return new GodwitError('bad-message', text);
}
