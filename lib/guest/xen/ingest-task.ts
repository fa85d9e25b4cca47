import { connect, type Socket } from 'node:net';
import type { Begin } from '../../crew/task.ts';
import { asGodwitError, GodwitError } from '../../errors.ts';
import { CHUNK_PAGES, PAGE_SIZE, type Region } from '../../memory/guest-layout.ts';
import { SpoolEnd, type SpoolShare } from '../../memory/state-spool.ts';
import { isOptional, LIBXC } from '../../stream/xen/format.ts';
import { SenderMessage } from '../../stream/xen/handshake.ts';
import type { PageData } from '../../stream/xen/page-data.ts';
import { type PassedRecord, XenStreamParser, type XenStreamSink } from '../../stream/xen/parser.ts';
import { RoundMarks } from '../../stream/xen/round-marks.ts';
import { formatSize } from '../../units.ts';
import { Chunker } from '../push/chunker.ts';
import type { Pushed } from '../push/ingest-protocol.ts';
import { LONGEST_PROLOGUE } from './device-model.ts';
import {
  nowMs,
  type RoundMark,
  type XenIngestData,
  type XenIngestRequests,
  type XenPrologue,
} from './ingest-protocol.ts';
import { PageTypes } from './page-types.ts';

/** Which of the chunker's blocks. */
const RAM = 0;
const TYPES = 1;

/** A page that was read before it was wanted: one without bytes, at the head of the first record. */
type EarlyPage = readonly [pfn: number, type: number];

/**
 * What takes the stream of an `xl migrate`: pages and their types go to the lanes, all else before the
 * first page is the prologue, and all else behind it the device state.
 */
class XenIngest implements XenStreamSink {
  readonly #parser = new XenStreamParser(this);
  readonly #marks = new RoundMarks();
  readonly #go = Promise.withResolvers<void>();
  readonly #message = new SenderMessage(() => this.#go.resolve());
  readonly #prologue = Promise.withResolvers<XenPrologue>();
  readonly #suspended = Promise.withResolvers<RoundMark>();
  readonly #complete = Promise.withResolvers<void>();
  readonly #data: XenIngestData;
  readonly #fail: (error: GodwitError) => void;
  #socket: Socket | undefined;
  #head: Buffer[] = [];
  #headBytes = 0;
  #config = '';
  /** Where in the head the pfns of a PV guest's p2m are told. */
  #p2mAt: number | undefined;
  #hasPages = false;
  #early: EarlyPage[] = [];
  #unread: Buffer | undefined;
  #ram: Region | undefined;
  #chunker: Chunker | undefined;
  #types: PageTypes | undefined;
  #mark: RoundMark = { ended: 0, pages: 0, atMs: nowMs() };
  /** The one before that. */
  #before = this.#mark;
  #roundPages = 0;
  #waiting: { readonly ended: number; readonly resolve: (mark: RoundMark) => void }[] = [];
  #isSuspended = false;
  #filled: Promise<void> | undefined;
  #isFilling = false;
  #spool: SpoolEnd | undefined;
  #saved = 0;
  #over = false;

  constructor(data: XenIngestData, fail: (error: GodwitError) => void) {
    this.#data = data;
    this.#fail = fail;
    for (const { promise } of [this.#go, this.#prologue, this.#suspended, this.#complete])
      promise.catch(() => {});
  }

  prologue(): Promise<XenPrologue> {
    const socket = connect({ path: this.#data.path });
    this.#socket = socket;
    socket.on('data', (bytes: Buffer) => this.#guarded(() => this.#receive(bytes)));
    socket.on('error', () => {}); // close follows
    socket.on('close', () =>
      this.#end(new GodwitError('hypervisor-failed', 'xl ended its stream')),
    );
    return this.#prologue.promise;
  }

  read({ regions, rings }: XenIngestRequests['read']['argument']): void {
    const [ram, types] = regions;
    const blocks = [ram, types].map(({ name, pages }) => ({ name, length: pages * PAGE_SIZE }));
    this.#ram = ram;
    this.#chunker = new Chunker(blocks, regions, rings);
    this.#types = new PageTypes(ram.pages);
    this.#guarded(() => {
      for (const [pfn, type] of this.#early.splice(0)) this.page(pfn, type, undefined, 0);
      const unread = this.#unread!;
      this.#unread = undefined;
      this.#receive(unread);
    });
    this.#flow();
  }

  round(ended: number): Promise<RoundMark> {
    const { promise, resolve } = Promise.withResolvers<RoundMark>();
    this.#waiting.push({ ended, resolve });
    this.#tellRounds();
    return promise;
  }

  publish(round: number): Pushed {
    this.#types!.flush(this.#giveTypes);
    const pushed = this.#chunker!.publish(round);
    if (this.#chunker!.isFull) this.#awaitRoom(this.#chunker!); // nothing may come that would wait for it
    return pushed;
  }

  suspended(): Promise<RoundMark> {
    return this.#suspended.promise;
  }

  saveInto(spool: SpoolShare): void {
    this.#spool = new SpoolEnd(spool);
  }

  async saved(): Promise<number> {
    await this.#complete.promise;
    return this.#saved;
  }

  go(): Promise<void> {
    return this.#go.promise;
  }

  close(): void {
    this.#leave();
    this.#spool?.close();
  }

  // ---- what the stream holds ---------------------------------------------

  configured(config: string): void {
    this.#config = config;
  }

  began(): void {}

  record({ layer, type }: PassedRecord): void {
    if (layer !== 'libxc') return;
    if (type === LIBXC.X86_PV_P2M_FRAMES) this.#p2mAt = this.#headBytes + 8;
    const mayComeAmongPages = isOptional(type) || type === LIBXC.VERIFY;
    if (this.#hasPages && !mayComeAmongPages) this.#stands();
  }

  passed(bytes: Buffer): void {
    if (this.#hasPages) return this.#save(bytes);
    this.#head.push(Buffer.from(bytes));
    this.#headBytes += bytes.length;
    if (this.#headBytes > LONGEST_PROLOGUE) throw tooLarge();
  }

  pageData(record: PageData): void {
    this.#hasPages = true;
    if (this.#isSuspended) throw new GodwitError('xen-stream', 'pages after the last page');
    if (this.#marks.begins(record)) this.#roundEnded();
  }

  page(pfn: number, type: number, bytes: Buffer | undefined, at: number): void {
    if (this.#chunker === undefined) {
      this.#early.push([pfn, type]);
      return;
    }
    if (pfn >= this.#ram!.pages)
      throw new GodwitError('hypervisor-failed', `xl sends page ${pfn}, beyond the guest's memory`);
    this.#roundPages++;
    if (bytes === undefined) this.#chunker.zero(RAM, pfn * PAGE_SIZE);
    else this.#chunker.put(RAM, pfn * PAGE_SIZE, bytes, at);
    this.#types!.tell(pfn, type, this.#giveTypes);
  }

  pageDataEnds(record: PageData): void {
    if (this.#marks.ends(record)) this.#roundEnded();
  }

  ended(): void {
    if (!this.#hasPages) throw new GodwitError('xen-stream', 'the guest has no pages');
    this.#spool!.progress.endAt(this.#saved);
    this.#complete.resolve();
  }

  after(bytes: Buffer): void {
    this.#message.feed(bytes);
  }

  // ------------------------------------------------------------------------

  readonly #giveTypes = (page: number, bytes: Buffer): void => {
    this.#chunker!.put(TYPES, page * PAGE_SIZE, bytes, 0);
  };

  #roundEnded(): void {
    this.#before = this.#mark;
    this.#mark = { ended: this.#marks.ended, pages: this.#roundPages, atMs: nowMs() };
    this.#roundPages = 0;
    this.#filled ??= this.#fill();
    this.#tellRounds();
  }

  /**
   * The guest has pages below its highest one of which the first round says nothing: they are no pages of
   * the guest, and go as zeros. Not more at once than the rings take.
   */
  async #fill(): Promise<void> {
    this.#isFilling = true;
    await undefined; // what was read already comes first
    for (let pfn = 0; pfn < this.#ram!.pages && !this.#over; pfn++) {
      if (pfn % CHUNK_PAGES === 0 && this.#chunker!.isFull) await this.#chunker!.room();
      if (!this.#types!.isTold(pfn)) this.#chunker!.zero(RAM, pfn * PAGE_SIZE);
    }
    this.#isFilling = false;
    this.#awaitRoom(this.#chunker!);
  }

  #tellRounds(): void {
    const isDue = ({ ended }: { ended: number }) => this.#mark.ended >= ended;
    for (const { resolve } of this.#waiting.filter(isDue)) resolve(this.#mark);
    this.#waiting = this.#waiting.filter((one) => !isDue(one));
  }

  /**
   * No page follows: that the guest stands is known for certain here for the first time. It may have stood
   * since the end of the round before the last one.
   */
  #stands(): void {
    if (this.#isSuspended) return;
    this.#isSuspended = true;
    const isOpen = this.#roundPages > 0; // a round that ends with a full record
    this.#marks.finish();
    const { atMs } = isOpen ? this.#mark : this.#before;
    const pages = isOpen ? this.#roundPages : this.#mark.pages;
    const mark = { ended: this.#marks.ended, pages, atMs };
    this.#filled ??= this.#fill();
    void this.#filled.then(() => this.#suspended.resolve(mark));
  }

  #save(bytes: Buffer): void {
    this.#spool!.write(this.#saved, bytes);
    this.#saved += bytes.length;
    this.#spool!.progress.wrote(0, this.#saved);
  }

  #receive(bytes: Buffer): void {
    if (this.#chunker) {
      this.#parser.feed(bytes);
      if (this.#isFilling) this.#flow();
      else if (this.#chunker.isFull) this.#awaitRoom(this.#chunker);
    } else if (this.#unread) this.#unread = Buffer.concat([this.#unread, bytes]);
    else this.#readPrologue(bytes);
  }

  /** Byte by byte, so that no page is read before somebody wants it. */
  #readPrologue(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at++) {
      this.#parser.feed(bytes.subarray(at, at + 1));
      if (!this.#hasPages) continue;
      this.#unread = Buffer.from(bytes.subarray(at + 1));
      this.#socket!.pause();
      const head = Buffer.concat(this.#head);
      this.#head = [];
      const last = this.#p2mAt === undefined ? undefined : head.readUInt32LE(this.#p2mAt + 4);
      const pfnEnd = last === undefined ? undefined : last + 1;
      return this.#prologue.resolve({ bytes: head, config: this.#config, pfnEnd });
    }
  }

  #awaitRoom(chunker: Chunker): void {
    this.#flow();
    void chunker.room().then(() => this.#flow());
  }

  #flow(): void {
    if (this.#chunker?.isFull || this.#isFilling) this.#socket!.pause();
    else this.#socket!.resume();
  }

  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#end(asGodwitError(error));
      this.#leave();
    }
  }

  #leave(): void {
    this.#over = true;
    this.#socket?.destroy();
    this.#chunker?.end();
  }

  #end(error: GodwitError): void {
    if (this.#over) return;
    this.#over = true;
    for (const one of [this.#prologue, this.#suspended, this.#complete, this.#go])
      one.reject(error);
    this.#fail(error);
  }
}

function tooLarge(): GodwitError {
  const text = `xl sends more than ${formatSize(LONGEST_PROLOGUE)} before the first page: a PV guest of more than some 36 GiB cannot be moved`;
  return new GodwitError('hypervisor-failed', text);
}

export const begin: Begin<XenIngestData, XenIngestRequests> = (data, fail) => {
  const ingest = new XenIngest(data, fail);
  return {
    handlers: {
      prologue: () => ingest.prologue(),
      read: (what) => {
        ingest.read(what);
        return undefined;
      },
      round: (ended) => ingest.round(ended),
      publish: (round) => ingest.publish(round),
      suspended: () => ingest.suspended(),
      saveInto: (spool) => {
        ingest.saveInto(spool);
        return undefined;
      },
      saved: () => ingest.saved(),
      go: async () => {
        await ingest.go();
        return undefined;
      },
    },
    close: () => ingest.close(),
  };
};
