import net from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Begin } from '../../crew/task.ts';
import { asGodwitError, GodwitError } from '../../errors.ts';
import { SpoolEnd, type SpoolShare } from '../../memory/state-spool.ts';
import type { ContentShares } from '../../pages/content-sample.ts';
import { hashableMemory } from '../../pages/hash.ts';
import { DeviceTail } from '../../stream/qemu/device-tail.ts';
import { COMMAND, type RamBlock } from '../../stream/qemu/format.ts';
import { StreamParser, type StreamSink } from '../../stream/qemu/parser.ts';
import { pong, shut, switchoverAck } from '../../stream/qemu/return-path.ts';
import { readInPlace } from '../../wire/read-in-place.ts';
import { encodeStateHead } from '../qemu/device-model.ts';
import { StateBeforeStop } from '../qemu/global-state.ts';
import { Chunker } from './chunker.ts';
import { DroppedPages } from './dropped-pages.ts';
import type { IngestData, IngestRequests, Prologue, Pushed } from './ingest-protocol.ts';
import { StreamEnd } from './stream-end.ts';

/**
 * What is read of a stream, in memory of the hasher: a page is hashed there, while the processor's cache
 * holds it. One for all streams of a thread, since whatever is read is dealt with before the next read.
 */
const PLACE = hashableMemory(256 << 10);
/** What QEMU's and our end of its socket hold is far less. */
const SOCKET_BYTES = 1 << 20;

/**
 * What QEMU migrates to: takes its stream apart, hands pages to the lanes through their rings and
 * keeps the rest. While a ring is full it does not read, and QEMU's socket fills up.
 */
class Ingest implements StreamSink {
  readonly #parser = new StreamParser(this);
  readonly #tail = new DeviceTail();
  readonly #before = new StateBeforeStop();
  #spool: SpoolEnd | undefined;
  #saved = 0;
  readonly #prologue = Promise.withResolvers<Prologue>();
  readonly #ramEnded = Promise.withResolvers<void>();
  readonly #complete = Promise.withResolvers<void>();
  readonly #fail: (error: GodwitError) => void;
  readonly #streamEnd: StreamEnd;
  #blocks: readonly RamBlock[] | undefined;
  #chunker: Chunker | undefined;
  /** In its place, when no page is wanted. */
  #dropped: DroppedPages | undefined;
  /** Read before the pages were wanted. */
  #early: Buffer | undefined;
  #server: net.Server | undefined;
  #socket: net.Socket | undefined;
  /** The stream is to be read; it is not while a ring is full. */
  #wanted = true;
  /** What follows is no page. */
  #hasRamEnded = false;
  /** QEMU may close the connection. */
  #over = false;

  constructor(streamEnd: StreamEnd, onFailure: (error: GodwitError) => void) {
    this.#fail = onFailure;
    this.#streamEnd = streamEnd;
    void streamEnd.ended().then(() => this.#leave());
    for (const { promise } of [this.#prologue, this.#ramEnded, this.#complete])
      promise.catch(() => {});
  }

  listen(path: string): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const server = net.createServer({ pauseOnConnect: true });
    this.#server = server;
    server.on('connection', (socket) => {
      server.close(); // QEMU connects once; nobody else is wanted
      this.#take(readInPlace(socket, () => PLACE));
    });
    server.once('error', (cause: NodeJS.ErrnoException) =>
      reject(
        new GodwitError('listen-failed', `cannot listen on ${path}: ${cause.code}`, { cause }),
      ),
    );
    server.listen(path, resolve);
    return promise;
  }

  prologue(): Promise<Prologue> {
    return this.#prologue.promise;
  }

  read({ regions, rings }: IngestRequests['read']['argument']): void {
    this.#chunker = new Chunker(this.#blocks!, regions, rings);
    this.#readOn();
  }

  drop(): void {
    this.#dropped = new DroppedPages(this.#blocks!);
    this.#readOn();
  }

  dropped(): ContentShares {
    return this.#dropped!.shares;
  }

  /** A pass whose end is told on QEMU's monitor may still be in its socket: that is read first. */
  async publish(round: number): Promise<Pushed> {
    const chunker = this.#chunker!;
    const most = this.#parser.position + SOCKET_BYTES;
    for (let read = -1; this.#mayHavePages && read < most; ) {
      if (chunker.isFull) await chunker.room();
      else if (read === this.#parser.position) break;
      read = this.#parser.position;
      await nextTurn();
      await nextTurn(); // the first may come before any socket was looked at
    }
    return chunker.publish(round);
  }

  reading(on: boolean): void {
    this.#wanted = on;
    this.#flow();
  }

  allowSwitchover(): void {
    this.#socket!.write(switchoverAck());
  }

  ended(): Promise<void> {
    return this.#ramEnded.promise;
  }

  saveInto(spool: SpoolShare): void {
    this.#spool = new SpoolEnd(spool);
  }

  async saved(): Promise<IngestRequests['saved']['answer']> {
    await this.#complete.promise;
    return { bytes: this.#saved, before: this.#before.word };
  }

  shut(): void {
    this.#over = true;
    this.#socket!.write(shut(0));
  }

  /** QEMU hears the end of its stream, and nobody waits for anything any more. */
  close(): void {
    this.#leave();
    this.#spool?.close();
    this.#streamEnd.end(); // whoever waits for that word
  }

  // ---- what the stream holds ---------------------------------------------

  blocks(blocks: readonly RamBlock[]): void {
    this.#blocks = blocks;
  }

  page(block: number, offset: number, bytes: Buffer, at: number): void {
    if (this.#dropped) this.#dropped.put(bytes, at);
    else this.#chunker!.put(block, offset, bytes, at);
  }

  zero(block: number, offset: number): void {
    if (this.#dropped) this.#dropped.zero();
    else this.#chunker!.zero(block, offset);
  }

  command(command: number, payload: Buffer): void {
    if (command === COMMAND.PING) this.#socket!.write(pong(payload.readUInt32BE()));
  }

  ramEnded(): void {
    if (this.#dropped) return; // of a guest that somebody has stopped, and it is to stay
    this.#hasRamEnded = true;
    this.#save(encodeStateHead(this.#parser.beforeEnd));
    this.#ramEnded.resolve();
  }

  tail(bytes: Buffer): void {
    if (this.#dropped) return;
    this.#tail.add(bytes);
    this.#before.add(bytes);
    this.#save(bytes);
    if (!this.#tail.complete) return;
    this.#spool!.progress.endAt(this.#saved);
    this.#complete.resolve();
  }

  // ------------------------------------------------------------------------

  /** It is on its way as it comes. */
  #save(bytes: Buffer): void {
    this.#spool!.write(this.#saved, bytes);
    this.#saved += bytes.length;
    this.#spool!.progress.wrote(0, this.#saved);
  }

  #take(socket: net.Socket): void {
    this.#socket = socket;
    socket.on('error', () => {}); // close follows
    socket.on('data', (bytes: Buffer) => this.#guarded(() => this.#receive(bytes)));
    socket.on('close', () => {
      if (!this.#over)
        this.#end(new GodwitError('hypervisor-failed', 'QEMU ended its migration stream'));
    });
  }

  #readOn(): void {
    const early = this.#early!;
    this.#early = undefined;
    this.#guarded(() => this.#receive(early));
    this.#flow();
  }

  #receive(bytes: Buffer): void {
    if (this.#dropped) this.#parser.feed(bytes);
    else if (this.#chunker) {
      this.#parser.feed(bytes);
      if (this.#chunker.isFull) this.#awaitRoom(this.#chunker);
    } else if (this.#early) this.#early = Buffer.concat([this.#early, bytes]);
    else this.#readPrologue(bytes);
  }

  #awaitRoom(chunker: Chunker): void {
    this.#flow();
    void chunker.room().then(() => this.#flow());
  }

  get #mayHavePages(): boolean {
    return this.#wanted && !this.#hasRamEnded && !this.#over;
  }

  /** Reads, or does not. */
  #flow(): void {
    if (this.#wanted && !this.#chunker?.isFull) this.#socket!.resume();
    else this.#socket!.pause();
  }

  /** Byte by byte, so that no page is read before somebody wants it. */
  #readPrologue(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at++) {
      this.#parser.feed(bytes.subarray(at, at + 1));
      if (!this.#blocks) continue;
      this.#early = Buffer.from(bytes.subarray(at + 1));
      this.#socket!.pause();
      const { machine = '', prologue } = this.#parser;
      return this.#prologue.resolve({ machine, bytes: prologue!, blocks: this.#blocks });
    }
  }

  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (!this.#streamEnd.isEnded) this.#end(asGodwitError(error));
      this.#leave();
    }
  }

  /** QEMU gives the migration up, and the guest runs on; whoever has ended the stream says why. */
  #leave(): void {
    this.#over = true;
    this.#server?.close();
    this.#socket?.destroy();
    this.#chunker?.end();
  }

  #end(error: GodwitError): void {
    if (this.#over) return;
    this.#over = true;
    for (const waiting of [this.#prologue, this.#ramEnded, this.#complete]) waiting.reject(error);
    this.#fail(error);
  }
}

export const begin: Begin<IngestData, IngestRequests> = ({ path, end }, fail) => {
  const streamEnd = new StreamEnd(end);
  const ingest = new Ingest(streamEnd, fail);
  return {
    handlers: {
      listen: async () => {
        await ingest.listen(path);
        return undefined;
      },
      prologue: () => ingest.prologue(),
      read: (what) => {
        ingest.read(what);
        return undefined;
      },
      drop: () => {
        ingest.drop();
        return undefined;
      },
      dropped: () => ingest.dropped(),
      publish: (round) => ingest.publish(round),
      reading: (on) => {
        ingest.reading(on);
        return undefined;
      },
      allowSwitchover: () => {
        ingest.allowSwitchover();
        return undefined;
      },
      ramEnded: async () => {
        await ingest.ended();
        return undefined;
      },
      saveInto: (spool) => {
        ingest.saveInto(spool);
        return undefined;
      },
      saved: () => ingest.saved(),
      shut: () => {
        ingest.shut();
        return undefined;
      },
    },
    close: () => ingest.close(),
  };
};
