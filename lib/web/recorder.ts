import type { AgentBackend } from '../api/backend.ts';
import { type Sample, Samples, sampleOf } from './samples.ts';

/** Between two looks at what runs, ms. */
const LOOK_MS = 500;

/** Keeps what running migrations were like, for whoever opens the page later. */
export class Recorder {
  readonly #backend: Pick<AgentBackend, 'list'>;
  readonly #samples = new Map<string, Samples>();
  readonly #timer: NodeJS.Timeout;

  constructor(backend: Pick<AgentBackend, 'list'>) {
    this.#backend = backend;
    this.#timer = setInterval(() => this.#look(), LOOK_MS).unref();
  }

  /** None of one that does not run, or has only just begun. */
  of(id: string): readonly Sample[] {
    return this.#samples.get(id)?.all ?? [];
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const running = this.#backend.list().filter(({ phase }) => phase !== 'ended');
    for (const id of this.#samples.keys())
      if (!running.some((view) => view.id === id)) this.#samples.delete(id);
    for (const view of running) {
      const samples = this.#samples.get(view.id) ?? new Samples();
      this.#samples.set(view.id, samples);
      samples.add(sampleOf(view));
    }
  }
}
