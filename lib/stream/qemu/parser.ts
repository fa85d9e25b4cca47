import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import { ByteWindow, type Parsing } from '../byte-window.ts';
import { readConfiguration, readHeader, readName } from './configuration.ts';
import { COMMAND, ELEMENT, nameIn, RAM_NAME, RAM_VERSION, type RamBlock } from './format.ts';
import { type PageSink, RamSection } from './ram-section.ts';
import { refuse } from './refusal.ts';

/** What a stream holds, as it is read. Views of bytes are valid during the call only. */
export interface StreamSink extends PageSink {
  /** The RAM blocks in the stream's order: the prologue was read. */
  blocks(blocks: readonly RamBlock[]): void;
  /** OPEN_RETURN_PATH, and PING with its u32, which wants a PONG. */
  command(command: number, payload: Buffer): void;
  /** END of the RAM was read: all that follows goes to `tail`. */
  ramEnded(): void;
  /** Bytes after END of the RAM (device state, description), as they come. */
  tail(bytes: Buffer): void;
}

/** The commands that are taken before START and before END of the RAM: length of the payload. */
type Commands = Readonly<Record<number, number>>;
const BEFORE_START: Commands = { [COMMAND.OPEN_RETURN_PATH]: 0, [COMMAND.PING]: 4 };
const BEFORE_END: Commands = { [COMMAND.SWITCHOVER_START]: 0 };

/** Real prologues have some 500 bytes; this is room for 1000 blocks with names of 50 bytes. */
const LONGEST_PROLOGUE = 64 * 1024;

const EMPTY = Buffer.alloc(0);

/**
 * Reads the migration stream of a source QEMU, cut anywhere, up to the end of its RAM; what
 * follows has no lengths and stays opaque. A pure parser: the sink is called inside `feed`.
 *
 * It takes a precopy stream whose only section before the end of the RAM is the RAM, with pages of
 * 4096 bytes sent as they are; everything else is refused. What it refuses, or the sink throws,
 * ends it for good: `feed` throws the first reason from then on.
 *
 * Memory: one token, the prologue, and the block list.
 */
export class StreamParser {
  readonly #sink: StreamSink;
  readonly #window = new ByteWindow(PAGE_SIZE);
  readonly #ram: RamSection;
  readonly #stream: Parsing;
  /** The bytes being fed, and the stream offset of the first. */
  #fed: Buffer = EMPTY;
  #fedAt = 0;
  /** Copies of what was fed before, while the prologue lasts. */
  #early: Buffer[] = [];
  #machine: string | undefined;
  #prologue: Buffer | undefined;
  #ramSection: { readonly id: number } | undefined;
  #beforeEnd: Buffer = EMPTY;
  #poison: { readonly reason: unknown } | undefined;

  constructor(sink: StreamSink) {
    this.#sink = sink;
    this.#ram = new RamSection(this.#window, sink);
    this.#stream = this.#readStream();
  }

  /** The source's machine type, such as pc-q35-7.2; known when `blocks` is called. */
  get machine(): string | undefined {
    return this.#machine;
  }

  /** The stream's first bytes, from "QEVM" through START of the RAM; known when `blocks` is called. */
  get prologue(): Buffer | undefined {
    return this.#prologue;
  }

  /** The number that the source gave to the RAM's section; known when `blocks` is called. */
  get ramSection(): { readonly id: number } | undefined {
    return this.#ramSection;
  }

  /** What stood before END of the RAM: SWITCHOVER_START, or nothing; known at `ramEnded`. */
  get beforeEnd(): Buffer {
    return this.#beforeEnd;
  }

  /** Bytes of the stream that were read as whole tokens. */
  get position(): number {
    return this.#window.position;
  }

  /**
   * Takes the next bytes of the stream; they are not needed after the call.
   * @throws GodwitError qemu-stream, or what the sink threw
   */
  feed(bytes: Buffer): void {
    if (this.#poison !== undefined) throw this.#poison.reason;
    try {
      this.#fed = bytes;
      this.#window.push(bytes);
      this.#stream.next();
      if (this.#prologue === undefined) this.#early.push(Buffer.from(bytes));
      this.#fedAt += bytes.length;
      this.#fed = EMPTY;
    } catch (reason) {
      this.#poison = { reason };
      this.#early = [];
      throw reason;
    }
  }

  *#readStream(): Parsing {
    yield* readHeader(this.#window);
    this.#machine = yield* readConfiguration(this.#window);
    while (!(yield* this.#readBeforeRam()));
    this.#endPrologue();
    while (!(yield* this.#readRam()));
    this.#sink.ramEnded();
    for (;;) {
      const rest = this.#window.rest();
      if (rest.length > 0) this.#sink.tail(rest);
      yield;
    }
  }

  /** One element of the prologue; true when it was START of the RAM, the last. */
  *#readBeforeRam(): Parsing<boolean> {
    yield* this.#window.need(1);
    const at = this.#window.position;
    if (at > LONGEST_PROLOGUE) refuse(at, 'no RAM section so far');
    const element = this.#window.u8();
    if (element === ELEMENT.COMMAND) {
      const { command, payload } = yield* this.#readCommand(at, BEFORE_START);
      this.#sink.command(command, payload);
      return false;
    }
    if (element !== ELEMENT.START) return yield* this.#refuseElement(at, element);
    yield* this.#readStart(at);
    return true;
  }

  /** One element of the RAM; true when it was END, the last. */
  *#readRam(): Parsing<boolean> {
    yield* this.#window.need(1);
    const at = this.#window.position;
    const element = this.#window.u8();
    if (element === ELEMENT.COMMAND) {
      yield* this.#readSwitchover(at);
      return false;
    }
    if (element !== ELEMENT.PART && element !== ELEMENT.END)
      return yield* this.#refuseElement(at, element);
    yield* this.#readSectionId(at);
    yield* this.#ram.readRecords();
    yield* this.#readFooter();
    return element === ELEMENT.END;
  }

  *#readStart(at: number): Parsing {
    const { id, name } = yield* this.#readSectionName();
    if (name !== RAM_NAME) refuse(at, `a section ${name}, which Godwit cannot move`);
    yield* this.#window.need(8);
    const instance = this.#window.u32();
    const version = this.#window.u32();
    if (instance !== 0 || version !== RAM_VERSION)
      refuse(
        at,
        `section ram of instance ${instance}, version ${version}, not 0 and ${RAM_VERSION}`,
      );
    this.#ramSection = { id };
    yield* this.#ram.readBlockList(LONGEST_PROLOGUE);
    yield* this.#readFooter();
  }

  *#readSectionName(): Parsing<{ id: number; name: string }> {
    yield* this.#window.need(4);
    const id = this.#window.u32();
    return { id, name: yield* readName(this.#window) };
  }

  *#readSectionId(at: number): Parsing {
    yield* this.#window.need(4);
    const id = this.#window.u32();
    if (id !== this.#ramSection!.id) refuse(at, `more of section ${id}, which was never begun`);
  }

  *#readFooter(): Parsing {
    yield* this.#window.need(5);
    const at = this.#window.position;
    const footer = this.#window.u8();
    const id = this.#window.u32();
    if (footer !== ELEMENT.FOOTER || id !== this.#ramSection!.id)
      refuse(at, `no footer of section ${this.#ramSection!.id}, which ends here`);
  }

  *#readSwitchover(at: number): Parsing {
    const { command } = yield* this.#readCommand(at, BEFORE_END);
    if (this.#beforeEnd.length > 0)
      refuse(at, `command ${nameIn(COMMAND, command)} for the second time`);
    this.#beforeEnd = Buffer.from([ELEMENT.COMMAND, 0, command, 0, 0]);
  }

  *#readCommand(at: number, commands: Commands): Parsing<{ command: number; payload: Buffer }> {
    yield* this.#window.need(4);
    const command = this.#window.u16();
    const length = this.#window.u16();
    if (commands[command] !== length)
      refuse(
        at,
        `command ${nameIn(COMMAND, command)} with ${length} bytes, which has no place here`,
      );
    yield* this.#window.need(length);
    return { command, payload: this.#window.take(length) };
  }

  *#refuseElement(at: number, element: number): Parsing<never> {
    if (element === ELEMENT.START || element === ELEMENT.FULL) {
      const { name } = yield* this.#readSectionName();
      refuse(at, `a section ${name} before the end of the RAM, which Godwit cannot move`);
    }
    refuse(at, `element ${nameIn(ELEMENT, element)} before the end of the RAM`);
  }

  #endPrologue(): void {
    const fed = this.#fed.subarray(0, this.#window.position - this.#fedAt);
    this.#prologue = Buffer.concat([...this.#early, fed]);
    this.#early = [];
    this.#sink.blocks(this.#ram.blocks);
  }
}
