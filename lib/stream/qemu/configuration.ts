import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import type { ByteWindow, Parsing } from '../byte-window.ts';
import { ELEMENT, MAGIC, VERSION } from './format.ts';
import { refuse } from './refusal.ts';

/** QEMU's machine names have some 20 characters; this holds the length before bytes are awaited. */
const LONGEST_MACHINE_NAME = 255;

/** A name: u8 length and its bytes. Printable ASCII, as all of QEMU's are: it goes into sentences. */
export function* readName(window: ByteWindow): Parsing<string> {
  yield* window.need(1);
  return yield* readText(window, window.u8());
}

function* readText(window: ByteWindow, length: number): Parsing<string> {
  yield* window.need(length);
  const at = window.position;
  const text = window.take(length).toString('latin1');
  if (!/^[\x20-\x7e]+$/.test(text)) refuse(at, 'a name that is empty or not printable');
  return text;
}

/** "QEVM" and the version. */
export function* readHeader(window: ByteWindow): Parsing {
  yield* window.need(4);
  if (window.u32() !== MAGIC) refuse(0, 'something other than its magic number');
  yield* window.need(4);
  const version = window.u32();
  if (version !== VERSION) refuse(4, `version ${version} where Godwit reads ${VERSION}`);
}

/**
 * The configuration section with its subsections (vmstate_configuration in migration/savevm.c).
 * Their number is not given: a byte that is no SUBSECTION ends them, and is left to be read.
 * @returns the machine's name, such as pc-q35-7.2
 */
export function* readConfiguration(window: ByteWindow): Parsing<string> {
  yield* window.need(5);
  const at = window.position;
  const type = window.u8();
  if (type !== ELEMENT.CONFIGURATION)
    refuse(at, `element type ${type} in place of the configuration (send-configuration is off)`);
  const length = window.u32();
  if (length > LONGEST_MACHINE_NAME) refuse(at, `a machine name of ${length} bytes`);
  const machine = yield* readText(window, length);
  for (;;) {
    yield* window.need(1);
    if (window.peek() !== ELEMENT.SUBSECTION) return machine;
    yield* readSubsection(window);
  }
}

function* readSubsection(window: ByteWindow): Parsing {
  const at = window.position;
  window.u8();
  const name = yield* readName(window);
  yield* window.need(4);
  const version = window.u32();
  if (version !== 1) refuse(at, `version ${version} of the subsection ${name}`);
  if (name === 'configuration/target-page-bits') yield* readPageBits(window, at);
  else if (name === 'configuration/capabilities') yield* readCapabilities(window, at);
  else if (name === 'configuration/uuid') yield* readUuid(window);
  else refuse(at, `an unknown subsection ${name}`);
}

function* readPageBits(window: ByteWindow, at: number): Parsing {
  yield* window.need(4);
  const bits = window.u32();
  if (2 ** bits !== PAGE_SIZE)
    refuse(at, `pages of 2^${bits} bytes where Godwit moves ${PAGE_SIZE}`);
}

/** QEMU lists capabilities only when they change the stream's form: x-ignore-shared, mapped-ram. */
function* readCapabilities(window: ByteWindow, at: number): Parsing {
  yield* window.need(4);
  if (window.u32() === 0) return;
  const name = yield* readName(window);
  refuse(at, `the capability ${name}, which must be off`);
}

function* readUuid(window: ByteWindow): Parsing {
  yield* window.need(16);
  window.take(16);
}
