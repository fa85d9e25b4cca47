import { asGodwitError, GodwitError } from '../errors.ts';
import type { GuestCopy, Moment } from '../guest/guest.ts';
import type { DefinitionDuty } from '../guest/hypervisor.ts';
import type { RunState } from '../guest/run-state.ts';
import type { Connection } from '../wire/connection.ts';
import type { Link } from '../wire/link.ts';
import { type Choice, checkChoice, type Dilemma, decided } from './decision.ts';
import { Driver, type Settling } from './driver.ts';
import { faultPoint } from './fault.ts';
import type { Tenure } from './guest-record.ts';
import type { Journal, JournalEntry } from './journal/journal.ts';
import type { Act, Decision, Machine, State } from './machine.ts';
import {
  type Copy,
  type Known,
  type Obligation,
  type Standing,
  standingWords,
} from './obligations.ts';

/** Characters of a reason that travel or are kept. */
const MAX_TEXT = 1000;

export interface HandoverOptions<Name extends string> {
  /** In the journal already; an entry that an earlier run left open says more. */
  readonly entry: Omit<JournalEntry, 'state' | 'time' | 'secret'> & {
    readonly state: Name;
    /** When it was written, ms since 1970. */
    readonly time?: number;
  };
  readonly journal: Pick<Journal, 'append'>;
  readonly tenure: Tenure;
  /** The copy of the guest here by its handle. @throws GodwitError not-seen */
  readonly attach: () => Promise<GuestCopy | 'gone'>;
  /** What is to become of a definition of the guest on this host; undefined: nothing. */
  readonly definition?: (() => DefinitionDuty | undefined) | undefined;
  /** What the operator wants done at that moment. */
  readonly hook?: (moment: Moment) => Promise<void>;
  /** How the migration went is known. */
  readonly onReport: (moved: boolean, error: GodwitError | undefined) => void;
  /** Something about it is new. */
  readonly onChange: () => void;
  readonly log: (level: 'info' | 'warn' | 'error', text: string) => void;
  /** Calls back after that time, ms; returns the way out. Tests have a clock of their own. */
  readonly after?: (ms: number, callback: () => void) => () => void;
}

/** What an entry says before anything is known. */
export const BLANK_ENTRY = {
  held: true,
  runState: '',
  seal: new Uint8Array(0),
  code: '',
  text: '',
} as const;

/** A way to the other side: a link that outlives connections, or one connection. */
export type Voice = Pick<Link, 'send' | 'destroy'> | Pick<Connection, 'send' | 'destroy'>;

/** What sets the two sides apart. */
export interface HandoverSide<Name extends string, Event> {
  readonly name: 'source' | 'destination';
  readonly machine: Machine<Name, Event>;
  readonly obligations: { readonly [N in Name]?: Obligation };
  /** An earlier run of the agent may have told the guest to run in these states. */
  readonly mayHaveRun: readonly Name[];
}

/**
 * One side's right to run a guest: its machine, the journal, the guest's record, the copy here, and
 * whatever connection there is to the other side at the moment. It outlives connections and, by the
 * journal, the agent; it is over when its state is `ended`. The two sides add what they say.
 */
export abstract class Handover<
  Name extends string,
  Event extends { readonly type: string; readonly error?: unknown },
> {
  readonly #options: HandoverOptions<Name>;
  readonly #driver: Driver<Name, Event | Decision>;
  readonly #obligations: HandoverSide<Name, Event | Decision>['obligations'];
  #voice: Voice | undefined;
  #live: Promise<GuestCopy> | undefined;
  #attached: GuestCopy | undefined;
  #runState: RunState | undefined;
  /** The last obligation was not that the copy goes. */
  #mustBeHere = true;
  #hasRun: boolean | undefined;
  #resumes = 0;
  #recordedMs: number;

  constructor(side: HandoverSide<Name, Event | Decision>, options: HandoverOptions<Name>) {
    const { entry, tenure } = options;
    this.#options = options;
    this.#recordedMs = entry.time ?? Date.now();
    this.#obligations = side.obligations;
    this.#runState = entry.runState === '' ? undefined : (entry.runState as RunState);
    this.#hasRun = side.mayHaveRun.includes(entry.state) && (entry.held || undefined);
    const told = entry.state === 'discarded'; // a source that does not know of it need not
    const state = { name: entry.state, epoch: entry.epoch, told };
    // A copy that was stopped for a person may have been removed by hand.
    const held = entry.held && entry.state !== 'superseded';
    const fault = (place: string) => faultPoint(`${side.name}.${place}`);
    this.#driver = new Driver(
      side.machine,
      { state, held, tenure, error: entryError(entry) },
      {
        write: (next, held, error) => this.#write(next, held, error),
        copy: () => this.#copy(),
        forget: () => this.#forget(),
        known: () => this.#known(),
        obligation: (name) => side.obligations[name],
        definition: (next) => this.#definition(next),
        perform: (act) => this.perform(act),
        say: (next, error) => {
          const words = `send-${this.saying(next)}`;
          fault(`before.${words}`);
          const saying = this.say(next, error);
          const said = () => fault(`after.${words}`);
          return saying === undefined ? said() : saying.then(said);
        },
        report: options.onReport,
        holds: (next, standing) => this.#holds(next, standing),
        changed: options.onChange,
        log: options.log,
        fault,
        after: options.after ?? after,
      },
    );
  }

  /** As it was in the beginning. */
  get entry(): HandoverOptions<Name>['entry'] {
    return this.#options.entry;
  }

  get state(): State<Name> {
    return this.#driver.state;
  }

  /** Why this host does not get on, as long as it does not; the rest is the other side's. */
  get waiting(): GodwitError | undefined {
    return this.#driver.waiting;
  }

  /** How the copy stands here, where it does not simply run; "the guest …". */
  get standing(): string | undefined {
    const { owes, state } = this.#driver;
    if (owes?.act === 'resume-guest') return 'has still to be made to run';
    const isHome = this.#obligations[state.name]?.act === 'resume-guest';
    if (isHome && !this.#options.tenure.owns) return 'has moved on from';
    return this.#mustBeHere ? standingWords(this.#driver.standing) : undefined;
  }

  /** When its last record was about to be written, ms since 1970. */
  get recordedMs(): number {
    return this.#recordedMs;
  }

  /** As `GuestCopy.memoryOnly`, of the copy here. @throws GodwitError not-seen, hypervisor-failed */
  async memoryOnly(): Promise<boolean> {
    const copy = await this.#find();
    return copy !== 'gone' && ((await copy.memoryOnly?.()) ?? false);
  }

  /** What the guest did before it was suspended; undefined when it was not. */
  get runState(): RunState | undefined {
    return this.#runState;
  }

  /** What a person has decided about it, if the state rests on that. */
  get decision(): string | undefined {
    const error = this.#driver.error;
    return error?.code === 'resolved' ? error.message : undefined;
  }

  /** Nothing is left to be done to the copy: another migration of the guest may begin. */
  get rests(): boolean {
    return this.#driver.rests;
  }

  /** What a person could decide about it now. */
  abstract get dilemma(): Dilemma;

  /**
   * Where the guest is once the obligation of that state holds, for what this host keeps of it;
   * `unsettled` while the other side has a part in that, undefined in all other states.
   */
  protected abstract whereabouts(state: State<Name>): 'here' | 'gone' | 'unsettled' | undefined;
  /** What the state has to say, for the names of fault points. */
  protected abstract saying(state: State<Name>): string;
  /** Never rejects. */
  protected abstract say(state: State<Name>, error: GodwitError | undefined): void | Promise<void>;
  protected abstract perform(act: Exclude<Act, { type: 'say' }>): void | Promise<void>;

  /** What is said from here on goes this way; nothing is said without one. */
  speakThrough(voice: Voice | undefined): void {
    this.#voice = voice;
  }

  /**
   * The copy that a migration has in hand, or is making; without one, or when it comes to nothing, it
   * is found by its handle.
   */
  use(copy: Promise<GuestCopy> | undefined): void {
    copy?.catch(() => {});
    this.#live = copy;
  }

  /** Rejects when an act failed, so that what rests on it did not happen. */
  dispatch(event: Event | Decision): Promise<void> {
    return this.#driver.dispatch(event);
  }

  /** The epoch that both sides have agreed on. @throws GodwitError journal-failed */
  adopt(epoch: number): Promise<void> {
    return this.#driver.adopt(epoch);
  }

  /** What the guest did before it was suspended: written with the next record. */
  remember(runState: RunState): void {
    this.#runState = runState;
  }

  /** Resolves when what was dispatched so far is through. */
  async idle(): Promise<void> {
    for (let last: unknown; last !== this.#driver.idle(); ) {
      last = this.#driver.idle();
      await last;
    }
  }

  /** The agent stops: what is owed is left to the journal. */
  stop(): void {
    this.#driver.stop();
    this.letGo();
  }

  /** Leaves the copy alone until it is needed again. */
  letGo(): void {
    this.#attached?.close();
    this.#attached = undefined;
  }

  /**
   * A person decides, because the other host is gone for good.
   * @param by who they are
   * @throws GodwitError too-late, guest-died; not-seen when the copy here cannot be looked at
   */
  async resolve(choice: Choice, by: string): Promise<void> {
    checkChoice(this.dilemma, choice);
    await this.checkDecision(choice, await this.#copy());
    const error = decided(choice, by);
    await this.dispatch({ type: choice, error });
    this.#options.log(
      'warn',
      `${error.message}; now ${this.state.name}, epoch ${this.state.epoch}`,
    );
  }

  /** @throws GodwitError why that decision cannot be taken with the copy as it is */
  protected async checkDecision(choice: Choice, copy: Copy): Promise<void> {
    const keeps = ['committed', 'prepared', 'superseded'].includes(this.state.name);
    if (choice === 'keep-here' && keeps && copy === 'gone')
      throw new GodwitError('guest-died', 'the guest is gone from this host: nothing to keep');
  }

  /** The copy in hand. @throws GodwitError not-seen, guest-died */
  protected async here(): Promise<GuestCopy> {
    const copy = await this.#find();
    if (copy === 'gone') throw new GodwitError('guest-died', 'the guest is gone from this host');
    return copy;
  }

  /** What the state demands of the copy here holds. */
  protected get isHeld(): boolean {
    return this.#driver.held;
  }

  /** What is lost on the way is said again on the next connection. */
  protected speak(send: (voice: Voice) => void): void {
    if (this.#voice === undefined) return;
    try {
      send(this.#voice);
    } catch (thrown) {
      this.#options.log('warn', asGodwitError(thrown).message);
    }
  }

  /** Ends the connection with a reason. */
  protected hangUp(error: GodwitError): void {
    this.#voice?.destroy(error);
  }

  /** The obligation of that state holds for the first time. */
  protected held(_state: State<Name>, _standing: Standing): void {}

  /** Runs the operator's command for something that has happened; the migration does not wait for it. */
  protected happened(moment: Moment): void {
    this.#options.hook?.(moment).catch((thrown) => {
      this.#options.log('error', asGodwitError(thrown).message);
    });
  }

  #holds(state: State<Name>, standing: Standing): void {
    this.#mustBeHere = !['released', 'refused', 'discarded'].includes(state.name);
    // Stopped here for good by a decision: who reverses it wants it to run.
    if (state.name === 'superseded' && standing !== 'gone') this.#runState = 'running';
    const words = standingWords(standing);
    if (words && standing !== 'gone') this.#options.log('warn', `the guest ${words} here`);
    this.held(state, standing);
  }

  #definition(state: State<Name>): Settling | undefined {
    const where = this.whereabouts(state);
    const duty = where && this.#options.definition?.();
    if (where === undefined || duty === undefined) return undefined;
    return {
      act: where === 'here' ? 'define-guest' : 'undefine-guest',
      words: `libvirt's definition of the guest to ${where === 'here' ? 'be made' : 'go'}`,
      settle: where === 'unsettled' ? undefined : () => duty.settle(where),
    };
  }

  #known(): Known {
    return { runState: this.#runState, hasRun: this.#hasRun };
  }

  async #copy(): Promise<Copy> {
    const copy = await this.#find();
    if (copy === 'gone') return copy;
    return {
      state: () => copy.state(),
      suspend: () => copy.suspend(),
      resume: () => this.#resume(copy),
      destroy: () => copy.destroy(),
    };
  }

  /** The one in hand, or the one that its handle leads to. */
  async #find(): Promise<GuestCopy | 'gone'> {
    const live = await this.#live?.catch(() => undefined);
    const known = live ?? this.#attached;
    if (known !== undefined) return known;
    const found = await this.#options.attach();
    if (found !== 'gone') this.#attached = found;
    return found;
  }

  /** Between being told to and being seen to, nobody knows, unless the hypervisor proves it has not. */
  async #resume(copy: GuestCopy): Promise<RunState> {
    const before = this.#hasRun;
    const nth = ++this.#resumes;
    this.#hasRun = before || undefined;
    try {
      const state = await copy.resume();
      this.#hasRun = true;
      return state;
    } catch (thrown) {
      // A refusal that comes late says nothing about what was told since.
      const isLast = nth === this.#resumes;
      if (isLast && asGodwitError(thrown).code === 'not-started') this.#hasRun = before;
      throw thrown;
    }
  }

  /** A client that has failed once may be deaf for ever: the next attempt makes a new one. */
  #forget(): void {
    this.#live?.then((copy) => copy.close()).catch(() => {});
    this.#live = undefined;
    this.letGo();
  }

  async #write(state: State<Name>, held: boolean, error: GodwitError | undefined): Promise<void> {
    const { journal, entry } = this.#options;
    const why = error && { code: error.code, text: wordsOf(error) };
    const { migration, guest, hypervisor, peer, handle } = entry;
    this.#recordedMs = Date.now();
    await journal.append({
      ...{ migration, guest, hypervisor, peer },
      ...(handle === '' ? {} : { handle }), // else as noted since
      state: state.name,
      epoch: state.epoch,
      held,
      runState: this.#runState ?? '',
      ...this.alsoWritten(),
      ...why,
    });
  }

  /** What a side adds to its records. */
  protected alsoWritten(): { readonly seal?: Uint8Array } {
    return {};
  }
}

/** An error's words as they travel and are kept. */
export function wordsOf({ message }: GodwitError): string {
  return message.slice(0, MAX_TEXT).toWellFormed();
}

function entryError({ code, text }: { code?: string; text?: string }): GodwitError | undefined {
  return code ? new GodwitError(code as GodwitError['code'], text ?? '') : undefined;
}

function after(ms: number, callback: () => void): () => void {
  const timer = setTimeout(callback, ms);
  return () => clearTimeout(timer);
}
