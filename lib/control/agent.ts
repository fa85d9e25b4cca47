import type { AgentBackend } from './backend.ts';
import { Registry } from './registry.ts';
import type { MigrationView } from './view.ts';

interface Cancellable {
  readonly id: string;
  view(): MigrationView;
  /** @throws GodwitError too-late */
  cancel(): void;
}

/** What both daemons show of their migrations and let be done to them. */
export abstract class Agent<Session extends Cancellable> implements AgentBackend {
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
