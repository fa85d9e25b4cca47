import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import zlib from 'node:zlib';
import { Random } from '../../lib/guest/simulated/random.ts';
import {
  CHUNK_PAGES,
  CHUNK_SIZE,
  GuestLayout,
  PAGE_SIZE,
  type Region,
} from '../../lib/memory/guest-layout.ts';
import { GuestMemory } from '../../lib/memory/guest-memory.ts';
import { BatchDecoder } from '../../lib/pages/batch-decoder.ts';
import { BatchEncoder, type EncodedBatch, withPacked } from '../../lib/pages/batch-encoder.ts';
import type { Level } from '../../lib/pages/compression.ts';
import { PageHash } from '../../lib/pages/hash.ts';
import { HashTable } from '../../lib/pages/hash-table.ts';
import { hashKept, KeptHashes, keptChunks } from '../../lib/pages/kept-hashes.ts';
import { KeyedHash } from '../../lib/pages/keyed-hashes.ts';
import { RoundTags } from '../../lib/pages/round-tags.ts';

/** Fills a page with content that does not compress and that its number determines. */
export function noise(page: Buffer, number: number): void {
  const random = new Random(number);
  for (let at = 0; at < page.length; at += 4) page.writeUInt32LE(random.next(), at);
}

/** A KeptHashes on its way. */
export interface Told {
  readonly chunk: number;
  readonly entries: Buffer;
}

/** Both ends of all lanes in one thread: source memory in a buffer, destination in a RAM file. */
export class Pipeline {
  readonly layout: GuestLayout;
  readonly lanes: number;
  readonly source: Buffer;
  readonly hash: PageHash;
  readonly tags: RoundTags;
  readonly encodings = new Set<number>();
  /** Whether the sender has time to spare. */
  spare = false;
  readonly #dir: string;
  readonly #file: string;
  readonly #memory: GuestMemory;
  readonly #keptSecret = randomBytes(32);
  readonly #sendTables: HashTable[];
  readonly #receiveTables: HashTable[];
  readonly #encoders: BatchEncoder[];
  readonly decoders: BatchDecoder[];

  constructor(regions: readonly Region[], lanes: number, seed = 7n) {
    this.hash = new PageHash(seed);
    this.layout = new GuestLayout(regions);
    this.lanes = lanes;
    this.source = Buffer.alloc(this.layout.pfnEnd * PAGE_SIZE);
    this.tags = new RoundTags(this.layout.pfnEnd);
    this.#dir = fs.mkdtempSync('/dev/shm/godwit-pages-');
    this.#file = `${this.#dir}/ram`;
    fs.writeFileSync(this.#file, '');
    fs.truncateSync(this.#file, this.source.length);
    const files = regions.map((region) => {
      return { region, path: this.#file, offset: region.firstPfn * PAGE_SIZE };
    });
    this.#memory = new GuestMemory(files, 'read-write');
    const all = Array.from({ length: lanes }, (_, lane) => lane);
    this.#sendTables = all.map((lane) => new HashTable(this.layout, lane, lanes));
    this.#receiveTables = all.map((lane) => new HashTable(this.layout, lane, lanes));
    this.#encoders = this.#sendTables.map(
      (table) => new BatchEncoder(this.hash, table, this.#keptSecret),
    );
    this.decoders = this.#receiveTables.map((table, lane) => {
      const { layout, hash, tags: arrived } = this;
      return new BatchDecoder({
        layout,
        lane,
        lanes,
        memory: this.#memory,
        hash,
        table,
        arrived,
      });
    });
  }

  /** Encodes pages of a chunk as they are in the source now. */
  encode(round: number, chunk: number, offsets: readonly number[], level: Level): EncodedBatch {
    const slot = Buffer.alloc(CHUNK_SIZE);
    this.source.copy(slot, 0, chunk * CHUNK_SIZE, (chunk + 1) * CHUNK_SIZE);
    const encoder = this.#encoders[chunk % this.lanes]!;
    const plain = encoder.encode(round, chunk, offsets, slot, level, this.spare);
    const params = { [zlib.constants.ZSTD_c_compressionLevel]: level };
    const packed = () => zlib.zstdCompressSync(plain.payload[0], { params });
    const batch = level === 0 ? plain : withPacked(plain, packed());
    for (const encoding of batch.message.encodings) this.encodings.add(encoding);
    return batch;
  }

  decode(batch: EncodedBatch): void {
    const payload = Buffer.concat(batch.payload);
    this.decoders[batch.message.chunk % this.lanes]!.decode(batch.message, payload);
  }

  /** Sends the pages, chunk by chunk. */
  send(round: number, pfns: Iterable<number>, level: Level): void {
    const chunks = new Map<number, number[]>();
    for (const pfn of [...new Set(pfns)].sort((a, b) => a - b)) {
      const chunk = Math.floor(pfn / CHUNK_PAGES);
      chunks.set(chunk, [...(chunks.get(chunk) ?? []), pfn % CHUNK_PAGES]);
    }
    for (const [chunk, offsets] of chunks) this.decode(this.encode(round, chunk, offsets, level));
  }

  page(pfn: number): Buffer {
    return this.source.subarray(pfn * PAGE_SIZE, (pfn + 1) * PAGE_SIZE);
  }

  destination(): Buffer {
    return fs.readFileSync(this.#file);
  }

  /** Pages of the destination's RAM file that take memory. */
  blocks(): number {
    return (fs.statSync(this.#file).blocks * 512) / PAGE_SIZE;
  }

  /** Somebody has used the destination's RAM file before. */
  spoil(pfn: number): void {
    this.#memory.write(pfn, 1, Buffer.alloc(PAGE_SIZE, 'left from before'), 0);
  }

  /** The destination has the pages from an earlier time. */
  keep(pfns: readonly number[]): void {
    for (const pfn of pfns) this.#memory.write(pfn, 1, this.page(pfn), 0);
  }

  /** What the receiver would tell of its memory. */
  hashKept(regions: ReadonlySet<string>): Told[] {
    const { layout, lanes, hash } = this;
    const key = new KeyedHash(this.#keptSecret);
    return this.#receiveTables.flatMap((table, lane) => {
      const copy = { layout, lane, lanes, regions, memory: this.#memory, hash, key, table };
      return [...keptChunks(copy)].flatMap((chunk) => {
        const entries = hashKept(copy, chunk);
        return entries === undefined ? [] : [{ chunk, entries }];
      });
    });
  }

  /** The sender hears of it. */
  hearKept(told: readonly Told[]): void {
    const { layout, lanes } = this;
    const heard = this.#encoders.map((_, lane) => new KeptHashes(layout, lane, lanes));
    for (const { chunk, entries } of told)
      this.#encoders[chunk % lanes]!.kept(heard[chunk % lanes]!.take(chunk, entries));
  }

  tellKept(regions: ReadonlySet<string>): void {
    this.hearKept(this.hashKept(regions));
  }

  /** Reads the destination's memory again; the first page that is not what arrived. */
  rereads(): number | undefined {
    const destination = this.destination();
    for (const { firstPfn, pages } of this.layout.regions)
      for (let pfn = firstPfn; pfn < firstPfn + pages; pfn++) {
        const page = destination.subarray(pfn * PAGE_SIZE, (pfn + 1) * PAGE_SIZE);
        const table = this.#receiveTables[Math.floor(pfn / CHUNK_PAGES) % this.lanes]!;
        if (this.hash.of(page) !== table.get(pfn)) return pfn;
      }
    return undefined;
  }

  digests(): { sent: bigint[]; received: bigint[] } {
    return {
      sent: this.#sendTables.map((table) => table.digest(this.hash)),
      received: this.#receiveTables.map((table) => table.digest(this.hash)),
    };
  }

  close(): void {
    this.#memory.close();
    fs.rmSync(this.#dir, { recursive: true, force: true }); // a second time, too
  }
}
