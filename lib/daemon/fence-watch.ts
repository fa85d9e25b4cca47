import { handBack } from '../cluster/aside.ts';
import { fencesOf } from '../cluster/fence-history.ts';
import { asGodwitError } from '../errors.ts';
import { log } from '../log.ts';
import type { MigrationView } from '../migration/view.ts';
import type { Dilemma } from '../ownership/decision.ts';
import {
  answerToStart,
  type Exposed,
  type Fence,
  fenceInWords,
  proves,
} from '../ownership/fenced.ts';
import type { Choice } from '../ownership/machine.ts';
import { parseAddress } from '../wire/address.ts';

/**
 * Between two looks, ms: a host is fenced seconds after it is lost, and a migration that goes on well is
 * nowhere open for so long, so that no tool is started for it.
 */
const LOOK_MS = 5000;

/** A fence that comes later than this is that of another trouble, ms. */
const LATE_FENCE_MS = 600_000;

/** A migration whose other host may be lost. */
export interface Watched {
  readonly id: string;
  view(): MigrationView;
  readonly handover:
    | {
        readonly state: { readonly name: Exposed['state'] };
        readonly recordedMs: number;
        memoryOnly(): Promise<boolean>;
      }
    | undefined;
}

export interface FenceWatchOptions {
  /** The cluster's names of hosts, by their addresses as peers have them. */
  readonly nodes: ReadonlyMap<string, string>;
  readonly migrations: () => readonly Watched[];
  /** Asks the cluster; tests have one of their own. */
  readonly fencesOf?: typeof fencesOf;
  readonly handBack?: typeof handBack;
  readonly lookMs?: number;
}

/**
 * Asks the cluster, as long as a migration is open, whether its other host was fenced; whoever may decide
 * then knows, and Pacemaker gets its resource back. Nobody tells it: it asks. It decides nothing.
 */
export class FenceWatch {
  readonly #options: FenceWatchOptions;
  /** Undefined where no cluster is known. */
  readonly #timer: NodeJS.Timeout | undefined;
  /** States at the last look, by migration. */
  #seen = new Map<string, string>();
  readonly #fenced = new Map<string, Fence>();
  readonly #answers = new Map<string, Choice>();
  readonly #handedBack = new Set<string>();
  readonly #said = new Set<string>();
  #looking = false;

  constructor(options: FenceWatchOptions) {
    this.#options = options;
    if (options.nodes.size === 0) return;
    this.#timer = setInterval(() => void this.#tick(), options.lookMs ?? LOOK_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** What a person is told who may decide, and the resource agent. */
  tell(id: string, dilemma: Dilemma): Dilemma {
    const [fence, answer] = [this.#fenced.get(id), this.#answers.get(id)];
    const isOpen = fence !== undefined && answer !== undefined && answer in dilemma.choices;
    return isOpen ? { ...dilemma, fenced: { fence: fenceInWords(fence), answer } } : dilemma;
  }

  /** A look that takes long is not overtaken by the next one. */
  async #tick(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    try {
      await this.#look();
    } catch (thrown) {
      log('error', `fences: ${asGodwitError(thrown).message}`);
    } finally {
      this.#looking = false;
    }
  }

  async #look(): Promise<void> {
    const open = this.#options.migrations().flatMap((one) => this.#openOne(one));
    const before = this.#seen;
    this.#seen = new Map(open.map(({ id, exposed }) => [id, exposed.state]));
    const lasting = open.filter(({ id, exposed }) => before.get(id) === exposed.state);
    for (const node of new Set(lasting.map((one) => one.node))) {
      const fences = await this.#ask(node);
      for (const one of lasting.filter((other) => other.node === node)) {
        const fence = fences.find((each) => proves(each, one.exposed));
        if (fence !== undefined) await this.#found(one, fence);
      }
    }
  }

  /** Nothing, for one that is through or whose other host is in no cluster that is known. */
  #openOne(migration: Watched): Open[] {
    const { id, handover } = migration;
    const view = migration.view();
    const { role, peer, guest, startedAt } = view;
    const node = this.#options.nodes.get(hostOf(peer));
    if (node === undefined || handover === undefined) return [];
    const { state, recordedMs } = handover;
    if (state.name === 'ended' && (this.#handedBack.has(id) || !isGivenUp(view))) return [];
    const exposed = { role, state: state.name, recordedMs, sinceMs: Date.parse(startedAt) };
    return [{ id, guest, node, exposed, memoryOnly: () => handover.memoryOnly() }];
  }

  /** A cluster that does not answer proves nothing, and is said to be silent once. */
  async #ask(node: string): Promise<readonly Fence[]> {
    try {
      const fences = await (this.#options.fencesOf ?? fencesOf)(node);
      this.#said.delete(node);
      return fences;
    } catch (thrown) {
      const { message } = asGodwitError(thrown);
      if (!this.#said.has(node)) log('warn', `whether ${node} was fenced is not known: ${message}`);
      this.#said.add(node);
      return [];
    }
  }

  async #found(open: Open, fence: Fence): Promise<void> {
    const { id, guest } = open;
    const about = `${id} ${guest}`;
    const isKnown = this.#fenced.has(id);
    if (!isKnown) log('warn', fenceInWords(fence), about);
    this.#fenced.set(id, fence);
    try {
      await this.#prepareAnswer(open);
      // A `migrate_to` that waits for the guest's place ends first: Pacemaker would have its failure last.
      if (!isKnown || this.#handedBack.has(id)) return;
      const resource = await (this.#options.handBack ?? handBack)(guest, id);
      this.#handedBack.add(id);
      if (resource) log('info', `resource ${resource} is Pacemaker's again`, about);
    } catch (thrown) {
      // The next look tries again.
      log('error', `its resource is not handed back yet: ${asGodwitError(thrown).message}`, about);
    }
  }

  /** A copy that cannot be looked at now is one that may have written. */
  async #prepareAnswer({ id, exposed, memoryOnly }: Open): Promise<void> {
    const answer = answerToStart(exposed, await memoryOnly().catch(() => false));
    if (answer !== undefined) this.#answers.set(id, answer);
  }
}

/**
 * An arrival that came to nothing a while ago: its source may be lost, which a cluster finds later than this
 * agent. Of a departure, whoever has asked for it knows by itself.
 */
function isGivenUp({ role, outcome, startedAt, elapsedMs }: MigrationView): boolean {
  const sinceMs = Date.now() - (Date.parse(startedAt) + elapsedMs);
  return role === 'receive' && outcome !== 'completed' && sinceMs < LATE_FENCE_MS;
}

interface Open {
  readonly id: string;
  readonly guest: string;
  readonly node: string;
  readonly exposed: Exposed;
  readonly memoryOnly: () => Promise<boolean>;
}

/** A peer is an address and a port; an address that is none is in no map. */
function hostOf(peer: string): string {
  try {
    return parseAddress(peer).host.replace(/^::ffff:/, '');
  } catch {
    return '';
  }
}
