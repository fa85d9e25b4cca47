import { connect, type Socket } from 'node:net';
import { asGodwitError, GodwitError } from '../../errors.ts';
import { CHUNK_PAGES, CHUNK_SIZE, PAGE_SIZE, type Region } from '../../memory/guest-layout.ts';
import { GuestMemory } from '../../memory/guest-memory.ts';
import { type PageRun, PageSet, runsWithinChunks } from '../../memory/page-set.ts';
import { SpoolEnd, type SpoolShare } from '../../memory/state-spool.ts';
import { COMMAND, ELEMENT } from '../../stream/qemu/format.ts';
import { type ReturnMessage, ReturnPathParser } from '../../stream/qemu/return-path.ts';
import { type PageRecord, StreamWriter } from '../../stream/qemu/writer.ts';
import { formatDuration } from '../../units.ts';
import { type EgressTask, running, type SentPages } from '../push/egress.ts';
import { decodeStateHead, STATE_HEAD_BYTES } from './device-model.ts';
import type { EgressData } from './egress.ts';

/** QEMU reads at once; it is silent for longest while it loads its devices. */
const STALL_LIMIT_MS = 30_000;
/** Value of the PING behind the prologue; QEMU's own count from 1. */
const COOKIE = 0x676f6477;

const ZERO_PAGE = Buffer.alloc(PAGE_SIZE);

/** The task behind `Egress`. A stream that breaks is reported once, as a failure. */
class QemuEgressTask implements EgressTask<number> {
  readonly #data: EgressData;
  readonly #writer: StreamWriter;
  readonly #fail: (error: GodwitError) => void;
  readonly #pong = Promise.withResolvers<void>();
  readonly #shut = Promise.withResolvers<number>();
  readonly #pages = Buffer.allocUnsafeSlow(CHUNK_SIZE);
  #memory: GuestMemory | undefined;
  #socket: Socket | undefined;
  #spool: SpoolEnd | undefined;
  #finishing = false;
  #ended = false;

  constructor(data: EgressData, fail: (error: unknown) => void) {
    this.#data = data;
    this.#fail = fail;
    this.#writer = new StreamWriter(data.sectionId);
  }

  async open(): Promise<undefined> {
    this.#memory = new GuestMemory(this.#data.staged, 'read');
    this.#socket = this.#connect(this.#data.socket);
    await this.#write(Buffer.concat([this.#data.prologue, ping(COOKIE)]));
    await this.#inTime(this.#pong.promise);
  }

  async round({ pfnEnd, buffer }: SentPages): Promise<undefined> {
    let records: PageRecord[] = [];
    for (const run of runsWithinChunks(new PageSet(pfnEnd, buffer).runs())) {
      if (records.length + run.pages > CHUNK_PAGES) {
        await this.#write(this.#writer.part(records));
        records = [];
      }
      this.#read(run, records);
    }
    if (records.length > 0) await this.#write(this.#writer.part(records));
  }

  async finish(state: SpoolShare): Promise<number> {
    this.#finishing = true;
    const spool = new SpoolEnd(state);
    this.#spool = spool;
    const { progress } = spool;
    const take = (at: number, most: number) => {
      const bytes = this.#pages.subarray(0, Math.min(most, progress.available - at));
      spool.read(at, bytes);
      return bytes;
    };
    while (progress.available < STATE_HEAD_BYTES && !progress.complete)
      await progress.more(progress.available);
    const { beforeEnd, end } = decodeStateHead(Buffer.from(take(0, STATE_HEAD_BYTES)));
    await this.#write(this.#writer.end(beforeEnd));
    for (let at = end; at < progress.available || !progress.complete; ) {
      await progress.more(at);
      const bytes = take(at, CHUNK_SIZE);
      if (bytes.length > 0) await this.#write(bytes);
      at += bytes.length;
    }
    return this.#inTime(this.#shut.promise);
  }

  close(): void {
    this.#ended = true;
    this.#socket?.destroy();
    this.#memory?.close();
    this.#spool?.close();
  }

  /** Adds the pages of a run to those in the buffer, unless QEMU has them already. */
  #read({ firstPfn, pages }: PageRun, records: PageRecord[]): void {
    const region = this.#stagedRegion(firstPfn);
    if (region === undefined) return;
    const from = records.length * PAGE_SIZE;
    this.#memory!.read(firstPfn, pages, this.#pages, from);
    for (let page = 0; page < pages; page++) {
      const at = from + page * PAGE_SIZE;
      const bytes = this.#pages.subarray(at, at + PAGE_SIZE);
      const offset = (firstPfn - region.firstPfn + page) * PAGE_SIZE;
      // A block that is fresh may hold firmware, so zeros are sent as well.
      const isZero = bytes.equals(ZERO_PAGE);
      records.push({ block: region.name, offset, ...(!isZero && { bytes }) });
    }
  }

  #stagedRegion(pfn: number): Region | undefined {
    const regions = this.#data.staged.map(({ region }) => region);
    return regions.find(({ firstPfn, pages }) => pfn >= firstPfn && pfn < firstPfn + pages);
  }

  #connect(path: string): Socket {
    const parser = new ReturnPathParser((message) => this.#hear(message));
    const socket = connect(path);
    socket.on('data', (bytes: Buffer) => {
      try {
        parser.feed(bytes);
      } catch (error) {
        this.#lose(asGodwitError(error));
      }
    });
    socket.on('error', () => {}); // 'close' follows
    socket.on('close', () => this.#lose(failure('closed its migration stream')));
    socket.on('timeout', () => this.#lose(failure(`has been silent for ${LIMIT}`)));
    return socket;
  }

  #hear(message: ReturnMessage): void {
    if (message.type === 'pong') {
      if (message.value === COOKIE) this.#pong.resolve();
    } else if (this.#finishing) {
      this.#ended = true;
      this.#shut.resolve(message.error);
    } else {
      this.#lose(failure('ended its migration stream'));
    }
  }

  #lose(error: GodwitError): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#socket!.destroy();
    this.#fail(error);
  }

  /** Resolves when the kernel has all of it. */
  #write(bytes: Buffer): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#socket!.write(bytes, (error) => (error ? reject(error) : resolve()));
    return this.#inTime(promise);
  }

  /** While QEMU is waited for, its stream may not stand still. */
  #inTime<T>(waiting: Promise<T>): Promise<T> {
    this.#socket!.setTimeout(STALL_LIMIT_MS);
    return waiting.finally(() => this.#socket!.setTimeout(0));
  }
}

const LIMIT = formatDuration(STALL_LIMIT_MS);

function failure(what: string): GodwitError {
  return new GodwitError('hypervisor-failed', `QEMU ${what}`);
}

function ping(value: number): Buffer {
  const bytes = Buffer.from([ELEMENT.COMMAND, 0, COMMAND.PING, 0, 4, 0, 0, 0, 0]);
  bytes.writeUInt32BE(value, 5);
  return bytes;
}

export const begin = (data: EgressData, fail: (error: unknown) => void) =>
  running(new QemuEgressTask(data, fail));
