import { GodwitError } from '../errors.ts';
import { type Choice, type Dilemma, sourceDilemma } from '../handover/resolve.ts';
import type { AgentBackend } from './backend.ts';
import { Registry } from './registry.ts';
import type { MigrationView } from './view.ts';

interface Managed {
  readonly id: string;
  view(): MigrationView;
  /** @throws GodwitError too-late */
  cancel(): void;
  /** Undefined before there is anything to hand over. */
  readonly handover: Resolvable | undefined;
}

interface Resolvable {
  readonly dilemma: Dilemma;
  /** @throws GodwitError too-late, journal-failed */
  resolve(choice: Choice): Promise<void>;
}

/** What both daemons show of their migrations and let be done to them. */
export abstract class Agent<Session extends Managed> implements AgentBackend {
  abstract readonly role: AgentBackend['role'];
  protected readonly registry = new Registry<Session>();

  list(): MigrationView[] {
    return this.registry.views();
  }

  show(id: string): MigrationView {
    return this.registry.find(id).view();
  }

  cancel(id: string): MigrationView {
    return this.act(id, (session) => session.cancel());
  }

  dilemma(id: string): Dilemma {
    return this.registry.find(id).handover?.dilemma ?? sourceDilemma('ended');
  }

  /** @throws GodwitError too-late, journal-failed */
  async resolve(id: string, choice: Choice): Promise<MigrationView> {
    const session = this.registry.find(id);
    if (session.handover === undefined)
      throw new GodwitError('too-late', 'there is nothing to decide about this migration');
    await session.handover.resolve(choice);
    this.resolved(session);
    return session.view();
  }

  /** A person has decided about its handover. */
  protected resolved(_session: Session): void {}

  watch(id: string, listener: (view: MigrationView) => void): () => void {
    return this.registry.watch(this.registry.find(id).id, listener);
  }

  totals(): Readonly<Record<string, number>> {
    return this.registry.totals();
  }

  /** Does something to one migration and shows it as it is then. */
  protected act(id: string, action: (session: Session) => void): MigrationView {
    const session = this.registry.find(id);
    action(session);
    return session.view();
  }
}
