import { workerData } from 'node:worker_threads';
import { CHUNK_PAGES } from '../../memory/guest-layout.ts';
import { CheckTable, createPageCheck, type PageCheck } from './check-table.ts';
import { ContentGenerator } from './content.ts';
import type { ContentMix } from './content-mix.ts';
import { DirtyLog } from './dirty-log.ts';
import { GuestMemory } from './guest-memory.ts';
import { Mailbox, type MailboxEnds } from './mailbox.ts';
import { hash3, Random, type RandomState } from './random.ts';
import { type Slice, sliceOf, type WorkloadSettings, WritePlan } from './workload.ts';

/** Milliseconds between two bursts of writes: short enough to be smooth, long enough to be cheap. */
const BURST_MS = 4;
/** A vCPU that falls behind its rate makes up for this much and drops the rest. */
const CATCH_UP_MS = 100;

/** What a vCPU needs to know of the guest before it can boot it or go on with it. */
export interface VcpuProgram {
  readonly seed: number;
  readonly mix: ContentMix;
  readonly settings: WorkloadSettings;
}

/** A vCPU between two writes: with memory, all it takes to go on elsewhere. */
export interface VcpuState {
  readonly random: RandomState;
  readonly position: number;
  readonly ranMs: number;
  readonly written: number;
  readonly sums: readonly [number, number];
}

export interface VcpuData {
  readonly mailbox: MailboxEnds;
  readonly index: number;
  readonly vcpus: number;
  readonly fd: number;
  readonly pages: number;
  readonly log: DirtyLog['shared'];
}

/** A vCPU: writes pages of its slice by its plan while it runs, and obeys its mailbox. */
class Vcpu {
  readonly #data: VcpuData;
  readonly #mailbox: Mailbox;
  readonly #memory: GuestMemory;
  readonly #slice: Slice;
  #random = new Random(0);
  #content: ContentGenerator | undefined;
  #plan: WritePlan | undefined;
  #inPlace = 0;
  #running = false;
  #written = 0;
  /** Guest time, which stands still while the guest is suspended. */
  #ranMs = 0;
  #lastBurst = 0;
  #owed = 0;

  constructor(data: VcpuData, check: PageCheck) {
    this.#data = data;
    this.#mailbox = new Mailbox(data.mailbox);
    const table = new CheckTable(data.pages);
    this.#slice = sliceOf(data.index, data.vcpus, table.dataPages, CHUNK_PAGES);
    const log = new DirtyLog(data.pages, data.log);
    this.#memory = new GuestMemory(data.fd, this.#slice, table, check, log);
  }

  run(): never {
    for (;;) {
      if (this.#mailbox.called) this.#mailbox.serve((name, argument) => this.#obey(name, argument));
      if (!this.#running) this.#mailbox.wait(Number.POSITIVE_INFINITY);
      else if (!this.#burst()) this.#mailbox.wait(BURST_MS);
    }
  }

  #obey(operation: string, argument: unknown): unknown {
    switch (operation) {
      case 'program':
        return this.#program(argument as VcpuProgram);
      case 'plan':
        return this.#setPlan(argument as VcpuProgram);
      case 'boot':
        return this.#memory.boot(this.#content!);
      case 'check':
        return this.#memory.check();
      case 'save':
        return this.#save();
      case 'load':
        return this.#load(argument as VcpuState);
      case 'pause':
        this.#running = false;
        return undefined;
      case 'run':
        this.#running = true;
        this.#lastBurst = performance.now();
        return undefined;
      default:
        throw new Error(`a vCPU cannot ${operation}`);
    }
  }

  #program(program: VcpuProgram): void {
    const { index, pages } = this.#data;
    this.#random = new Random(hash3(program.seed, index, 0xc0de));
    this.#content = new ContentGenerator(program.mix, program.seed, pages);
    this.#setPlan(program);
  }

  #setPlan({ settings, seed }: VcpuProgram): void {
    this.#plan = new WritePlan(settings, this.#slice, this.#data.vcpus, seed);
    this.#inPlace = settings.inPlace;
    this.#owed = 0;
  }

  /** Writes the pages that are due; true when more are due at once. */
  #burst(): boolean {
    const now = performance.now();
    const elapsed = now - this.#lastBurst;
    this.#lastBurst = now;
    this.#ranMs += elapsed;
    const rate = this.#plan!.rateAt(this.#ranMs) / this.#data.vcpus / 1000;
    const flatOut = rate === Number.POSITIVE_INFINITY;
    this.#owed = Math.min(this.#owed + elapsed * rate, rate * CATCH_UP_MS + 1);
    let due = flatOut ? CHUNK_PAGES : Math.floor(this.#owed);
    this.#owed = flatOut ? 0 : this.#owed - due;
    for (; due > 0 && !this.#mailbox.called; due--) this.#writePage();
    this.#owed += flatOut ? 0 : due;
    return flatOut;
  }

  #writePage(): void {
    const pfn = this.#plan!.next(this.#random);
    if (this.#random.below(100) < this.#inPlace) this.#memory.change(pfn, this.#random);
    else this.#memory.rewrite(pfn, this.#content!);
    this.#written++;
  }

  #save(): VcpuState {
    return {
      random: this.#random.state,
      position: this.#plan!.position,
      ranMs: this.#ranMs,
      written: this.#written,
      sums: this.#memory.sums.state,
    };
  }

  #load(state: VcpuState): void {
    this.#random.state = state.random;
    this.#plan!.position = state.position;
    this.#ranMs = state.ranMs;
    this.#written = state.written;
    this.#memory.sums.state = state.sums;
  }
}

new Vcpu(workerData as VcpuData, await createPageCheck()).run();
