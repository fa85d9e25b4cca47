import net from 'node:net';
import { GodwitError } from '../../errors.ts';
import { CHUNK_SIZE, PAGE_SIZE, type Region } from '../../memory/guest-layout.ts';
import { GuestMemory } from '../../memory/guest-memory.ts';
import { type PageRun, PageSet, runsWithinChunks } from '../../memory/page-set.ts';
import { SpoolEnd, type SpoolShare } from '../../memory/state-spool.ts';
import { within } from '../../poll.ts';
import { hasBytes } from '../../stream/xen/format.ts';
import { pageData, type XenPage } from '../../stream/xen/writer.ts';
import { type EgressTask, running, type SentPages } from '../push/egress.ts';
import type { XenEgressData } from './egress.ts';
import { UNTOLD } from './page-types.ts';

/** xl reads at once; it is silent for longest while it makes the domain and allots its memory. */
const STALL_LIMIT_MS = 60_000;

/** The task behind `XenEgress`. */
class XenEgressTask implements EgressTask<undefined> {
  readonly #data: XenEgressData;
  readonly #ram: Region;
  readonly #types: Region;
  /** As xl has heard it, a byte for each page; see `PageTypes`. */
  readonly #told: Buffer;
  readonly #pages = Buffer.allocUnsafeSlow(CHUNK_SIZE);
  readonly #typePage = Buffer.allocUnsafeSlow(PAGE_SIZE);
  #memory: GuestMemory | undefined;
  readonly #pipe: net.Socket;
  #spool: SpoolEnd | undefined;
  #ended = false;

  constructor(data: XenEgressData, fail: (error: unknown) => void) {
    this.#data = data;
    const [ram, types] = data.staged.map(({ region }) => region);
    this.#ram = ram!;
    this.#types = types!;
    this.#told = Buffer.alloc(this.#types.pages * PAGE_SIZE);
    this.#pipe = new net.Socket({ fd: data.pipe, readable: false, writable: true });
    this.#pipe.on('error', (cause) => {
      if (!this.#ended) fail(lost(cause.message));
    });
  }

  async open(): Promise<undefined> {
    this.#memory = new GuestMemory(this.#data.staged, 'read');
    await this.#write([Buffer.from(this.#data.prologue)]);
  }

  /** Pages that have come, and those that are something else than xl has heard. */
  async round({ pfnEnd, buffer }: SentPages): Promise<undefined> {
    const arrived = new PageSet(pfnEnd, buffer);
    const due = new PageSet(this.#ram.pages);
    for (const { firstPfn, pages } of arrived.runs())
      for (let pfn = firstPfn; pfn < firstPfn + pages; pfn++)
        if (pfn < this.#ram.pages) due.add(pfn);
        else if (pfn >= this.#types.firstPfn) this.#addChanged(pfn - this.#types.firstPfn, due);
    for (const run of runsWithinChunks(due.runs())) await this.#send(run);
    return undefined;
  }

  async finish(state: SpoolShare): Promise<undefined> {
    const spool = new SpoolEnd(state);
    this.#spool = spool;
    const { progress } = spool;
    for (let at = 0; at < progress.available || !progress.complete; ) {
      await progress.more(at);
      const bytes = this.#pages.subarray(0, Math.min(CHUNK_SIZE, progress.available - at));
      spool.read(at, bytes);
      if (bytes.length > 0) await this.#write([bytes]);
      at += bytes.length;
    }
    return undefined;
  }

  close(): void {
    this.#ended = true;
    this.#pipe.destroy();
    this.#memory?.close();
    this.#spool?.close();
  }

  #addChanged(page: number, due: PageSet): void {
    const first = page * PAGE_SIZE;
    this.#memory!.read(this.#types.firstPfn + page, 1, this.#typePage, 0);
    if (this.#typePage.equals(this.#told.subarray(first, first + PAGE_SIZE))) return;
    for (let i = 0; i < PAGE_SIZE && first + i < this.#ram.pages; i++)
      if (this.#typePage[i] !== this.#told[first + i]) due.add(first + i);
  }

  /** A run within one chunk, and so within one page of types. */
  async #send({ firstPfn, pages }: PageRun): Promise<void> {
    const typePage = Math.floor(firstPfn / PAGE_SIZE);
    this.#memory!.read(this.#types.firstPfn + typePage, 1, this.#typePage, 0);
    this.#memory!.read(firstPfn, pages, this.#pages, 0);
    const records: XenPage[] = [];
    for (let i = 0; i < pages; i++) {
      const pfn = firstPfn + i;
      const told = this.#typePage[pfn % PAGE_SIZE]!;
      if (told === UNTOLD) continue; // it comes again with its type
      this.#told[pfn] = told;
      const type = told - 1;
      const bytes = this.#pages.subarray(i * PAGE_SIZE, (i + 1) * PAGE_SIZE);
      records.push(hasBytes(type) ? { pfn, type, bytes } : { pfn, type });
    }
    if (records.length > 0) await this.#write(pageData(records));
  }

  /** Resolves when the pipe has all of it. */
  async #write(pieces: readonly Buffer[]): Promise<void> {
    const pipe = this.#pipe;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    pipe.cork();
    for (const piece of pieces.slice(0, -1)) pipe.write(piece);
    pipe.write(pieces.at(-1)!, (error) => (error ? reject(lost(error.message)) : resolve()));
    pipe.uncork();
    await within(STALL_LIMIT_MS, promise, () => lost('nothing is read of it'));
  }
}

function lost(why: string): GodwitError {
  return new GodwitError('hypervisor-failed', `xl migrate-receive has lost its stream: ${why}`);
}

export const begin = (data: XenEgressData, fail: (error: unknown) => void) =>
  running(new XenEgressTask(data, fail));
