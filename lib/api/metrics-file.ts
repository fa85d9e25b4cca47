import { open, rename, rm } from 'node:fs/promises';
import { GodwitError } from '../errors.ts';
import { log } from '../log.ts';
import type { AgentBackend } from './backend.ts';
import { textfileMetrics } from './metrics.ts';

/** Whoever scrapes a host does so every 15 s or less often, ms. */
const EVERY_MS = 15_000;
/** Whoever may look at a directory of metrics may read them. */
const MODE = 0o644;

/** Metrics as a file for node_exporter's textfile collector: never half of them, gone with the agent. */
export class MetricsFile {
  readonly #file: string;
  readonly #backend: AgentBackend;
  readonly #timer: NodeJS.Timeout;
  #writing: Promise<void>;
  #failed = false;

  /** Resolves when the file is there. @throws GodwitError metrics-failed, with what the system said */
  static async open(file: string, backend: AgentBackend): Promise<MetricsFile> {
    await write(file, backend);
    log('info', `metrics in ${file}`);
    return new MetricsFile(file, backend);
  }

  private constructor(file: string, backend: AgentBackend) {
    this.#file = file;
    this.#backend = backend;
    this.#writing = Promise.resolve();
    this.#timer = setInterval(() => this.#renew(), EVERY_MS).unref();
  }

  /** Figures of an agent that has ended are nobody's. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#writing;
    await rm(this.#file, { force: true }).catch(() => {});
  }

  /** One after the other, however long the disk takes; a failure is said once, and that it is over. */
  #renew(): void {
    this.#writing = this.#writing.then(async () => {
      try {
        await write(this.#file, this.#backend);
        if (this.#failed) log('info', `metrics in ${this.#file} again`);
        this.#failed = false;
      } catch (thrown) {
        if (!this.#failed) log('error', (thrown as GodwitError).message);
        this.#failed = true;
      }
    });
  }
}

async function write(file: string, backend: AgentBackend): Promise<void> {
  const next = `${file}.tmp`; // which no collector reads
  try {
    await rm(next, { force: true });
    const handle = await open(next, 'wx'); // the directory may be somebody else's: no link is followed
    try {
      await handle.writeFile(textfileMetrics(backend.list(), backend.figures()));
      await handle.chmod(MODE);
    } finally {
      await handle.close();
    }
    await rename(next, file);
  } catch (cause) {
    await rm(next, { force: true }).catch(() => {});
    const text = `metrics cannot be written to ${file}: ${(cause as Error).message}`;
    throw new GodwitError('metrics-failed', text, { cause });
  }
}
