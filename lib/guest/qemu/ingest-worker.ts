import net from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import { asGodwitError, GodwitError } from '../../errors.ts';
import { serveRequests } from '../../pages/worker-link.ts';
import { Chunker } from './chunker.ts';
import type { IngestData, IngestRequests, Prologue, Pushed } from './ingest-protocol.ts';
import { DeviceTail } from './stream/device-tail.ts';
import { COMMAND, type RamBlock } from './stream/format.ts';
import { StreamParser, type StreamSink } from './stream/parser.ts';
import { pong, shut, switchoverAck } from './stream/return-path.ts';

/**
 * The thread that QEMU migrates to: takes its stream apart, hands pages to the workers through their
 * rings and keeps the rest. While the rings are full it stands still, and QEMU's socket fills up.
 */
class Ingest implements StreamSink {
  readonly #parser = new StreamParser(this);
  readonly #tail = new DeviceTail();
  readonly #prologue = Promise.withResolvers<Prologue>();
  readonly #ramEnded = Promise.withResolvers<void>();
  readonly #complete = Promise.withResolvers<void>();
  readonly #fail: (error: GodwitError) => void;
  #blocks: readonly RamBlock[] | undefined;
  #chunker: Chunker | undefined;
  /** Read before the pages were wanted. */
  #early: Buffer | undefined;
  #socket: net.Socket | undefined;
  /** QEMU may close the connection. */
  #over = false;

  constructor(onFailure: (error: GodwitError) => void) {
    this.#fail = onFailure;
    for (const { promise } of [this.#prologue, this.#ramEnded, this.#complete])
      promise.catch(() => {});
  }

  listen(path: string): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const server = net.createServer((socket) => {
      server.close(); // QEMU connects once; nobody else is wanted
      this.#take(socket);
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
    const early = this.#early!;
    this.#early = undefined;
    this.#guarded(() => this.#parser.feed(early));
    this.#socket!.resume();
  }

  publish(round: number): Pushed {
    return this.#chunker!.publish(round);
  }

  reading(on: boolean): void {
    if (on) this.#socket!.resume();
    else this.#socket!.pause();
  }

  allowSwitchover(): void {
    this.#socket!.write(switchoverAck());
  }

  ended(): Promise<void> {
    return this.#ramEnded.promise;
  }

  async deviceState(): Promise<{ beforeEnd: Uint8Array; tail: Uint8Array }> {
    await this.#complete.promise;
    return { beforeEnd: this.#parser.beforeEnd, tail: this.#tail.bytes() };
  }

  shut(): void {
    this.#over = true;
    this.#socket!.write(shut(0));
  }

  // ---- what the stream holds ---------------------------------------------

  blocks(blocks: readonly RamBlock[]): void {
    this.#blocks = blocks;
  }

  page(block: number, offset: number, bytes: Buffer): void {
    this.#chunker!.put(block, offset, bytes);
  }

  zero(block: number, offset: number): void {
    this.#chunker!.put(block, offset, undefined);
  }

  command(command: number, payload: Buffer): void {
    if (command === COMMAND.PING) this.#socket!.write(pong(payload.readUInt32BE()));
  }

  ramEnded(): void {
    this.#ramEnded.resolve();
  }

  tail(bytes: Buffer): void {
    this.#tail.add(bytes);
    if (this.#tail.complete) this.#complete.resolve();
  }

  // ------------------------------------------------------------------------

  #take(socket: net.Socket): void {
    this.#socket = socket;
    socket.on('error', () => {}); // close follows
    socket.on('data', (bytes: Buffer) => this.#guarded(() => this.#receive(bytes)));
    socket.on('close', () => {
      if (!this.#over)
        this.#end(new GodwitError('hypervisor-failed', 'QEMU ended its migration stream'));
    });
  }

  #receive(bytes: Buffer): void {
    if (this.#chunker) return this.#parser.feed(bytes);
    if (this.#early) this.#early = Buffer.concat([this.#early, bytes]);
    else this.#readPrologue(bytes);
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
      this.#end(asGodwitError(error));
      this.#socket!.destroy(); // QEMU gives the migration up, and the guest runs on
    }
  }

  #end(error: GodwitError): void {
    if (this.#over) return;
    this.#over = true;
    for (const waiting of [this.#prologue, this.#ramEnded, this.#complete]) waiting.reject(error);
    this.#fail(error);
  }
}

const { path } = workerData as IngestData;
const ingest = new Ingest((error) => fail(error));
const fail = serveRequests<IngestRequests>(parentPort, {
  listen: async () => {
    await ingest.listen(path);
    return undefined;
  },
  prologue: () => ingest.prologue(),
  read: (what) => {
    ingest.read(what);
    return undefined;
  },
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
  deviceState: () => ingest.deviceState(),
  shut: () => {
    ingest.shut();
    return undefined;
  },
});
