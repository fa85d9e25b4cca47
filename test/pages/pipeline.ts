import fs from 'node:fs';
import {
  CHUNK_PAGES,
  CHUNK_SIZE,
  GuestLayout,
  PAGE_SIZE,
  type Region,
} from '../../lib/memory/guest-layout.ts';
import { GuestMemory } from '../../lib/memory/guest-memory.ts';
import { BatchDecoder } from '../../lib/pages/batch-decoder.ts';
import { BatchEncoder, type EncodedBatch } from '../../lib/pages/batch-encoder.ts';
import type { Level } from '../../lib/pages/compression.ts';
import { PageHash } from '../../lib/pages/hash.ts';
import { HashTable } from '../../lib/pages/hash-table.ts';
import { RoundTags } from '../../lib/pages/round-tags.ts';

/** Both ends of all channels in one thread: source memory in a buffer, destination in a RAM file. */
export class Pipeline {
  readonly layout: GuestLayout;
  readonly channels: number;
  readonly source: Buffer;
  readonly hash = new PageHash(7n);
  readonly tags: RoundTags;
  readonly encodings = new Set<number>();
  readonly #dir: string;
  readonly #file: string;
  readonly #memory: GuestMemory;
  readonly #sendTables: HashTable[];
  readonly #receiveTables: HashTable[];
  readonly #encoders: BatchEncoder[];
  readonly decoders: BatchDecoder[];

  constructor(regions: readonly Region[], channels: number) {
    this.layout = new GuestLayout(regions);
    this.channels = channels;
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
    const all = Array.from({ length: channels }, (_, channel) => channel);
    this.#sendTables = all.map((channel) => new HashTable(this.layout, channel, channels));
    this.#receiveTables = all.map((channel) => new HashTable(this.layout, channel, channels));
    this.#encoders = this.#sendTables.map((table) => new BatchEncoder(this.hash, table));
    this.decoders = this.#receiveTables.map((table, channel) => {
      const { layout, hash, tags: arrived } = this;
      return new BatchDecoder({
        layout,
        channel,
        channels,
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
    const batch = this.#encoders[chunk % this.channels]!.encode(round, chunk, offsets, slot, level);
    for (const encoding of batch.message.encodings) this.encodings.add(encoding);
    return batch;
  }

  decode(batch: EncodedBatch): void {
    const payload = Buffer.concat(batch.payload);
    this.decoders[batch.message.chunk % this.channels]!.decode(batch.message, payload);
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

  digests(): { sent: bigint[]; received: bigint[] } {
    return {
      sent: this.#sendTables.map((table) => table.digest(this.hash)),
      received: this.#receiveTables.map((table) => table.digest(this.hash)),
    };
  }

  close(): void {
    this.#memory.close();
    fs.rmSync(this.#dir, { recursive: true });
  }
}
