import { fillNames } from './content-text.ts';
import { Random } from './random.ts';

/** Binaries and heaps: instructions, pointers, small integers, names and gaps, some 256 bytes each. */

const TEMPLATES = 512;
const TEMPLATE_SLOT = 16;
const templates = makeTemplates();
/** Cubes prefer low numbers: a few instructions make up most of a program. */
const favourite = Uint16Array.from({ length: 1024 }, (_, i) =>
  Math.floor(TEMPLATES * (i / 1024) ** 3),
);

/** Fills `bytes` from `start` to `end` (multiples of 8) with binary content. */
export function fillBinary(bytes: Uint8Array, start: number, end: number, random: Random): void {
  const style = random.next();
  for (let at = start; at < end; ) {
    const draw = random.next();
    const stop = Math.min(end, at + 128 + (draw & 0xf8));
    // A page of code is mostly code, a page of heap mostly pointers and integers.
    const pick = (draw >>> 8) % 16;
    if (pick < (style & 7) + 3) fillInstructions(bytes, at, stop, random);
    else if (pick < 11) fillPointers(bytes, at, stop, style, random);
    else if (pick < 14) bytes.fill(0, at, stop);
    else if (pick < 15) fillIntegers(bytes, at, stop, random);
    else fillNames(bytes, at, stop, random);
    at = stop;
  }
}

function fillInstructions(bytes: Uint8Array, at: number, end: number, random: Random): void {
  while (at < end) {
    const draw = random.next();
    let from = favourite[draw & 1023]! * TEMPLATE_SLOT;
    const stop = Math.min(end, at + templates[from++]!);
    while (at < stop) bytes[at++] = templates[from++]!;
    const operand = (draw >>> 10) & 7;
    // Half the instructions carry an operand: a short displacement or a near address.
    if (operand < 3 && at < end) bytes[at++] = (draw >>> 16) & 0x78;
    else if (operand === 3 && at + 4 <= end) {
      bytes[at++] = draw >>> 24;
      bytes[at++] = draw >>> 16;
      bytes[at++] = (draw >>> 14) & 3;
      bytes[at++] = 0;
    }
  }
}

/** 48-bit addresses into an arena of 64 KiB, 16-byte aligned, little endian. */
function fillPointers(
  bytes: Uint8Array,
  at: number,
  end: number,
  arena: number,
  random: Random,
): void {
  for (; at < end; at += 8) {
    const draw = random.next();
    bytes[at] = draw & 0xf0;
    bytes[at + 1] = draw >>> 8;
    bytes[at + 2] = arena >>> 8;
    bytes[at + 3] = arena >>> 16;
    bytes[at + 4] = arena >>> 24;
    bytes[at + 5] = 0x7f;
    bytes[at + 6] = 0;
    bytes[at + 7] = 0;
  }
}

function fillIntegers(bytes: Uint8Array, at: number, end: number, random: Random): void {
  for (; at < end; at += 4) {
    const draw = random.next();
    bytes[at] = draw;
    bytes[at + 1] = (draw & 0x300) === 0 ? (draw >>> 16) & 0x0f : 0;
    bytes[at + 2] = 0;
    bytes[at + 3] = 0;
  }
}

/** Slots of one length byte and up to 12 bytes of an instruction or a usual sequence of them. */
function makeTemplates(): Uint8Array {
  const random = new Random(2);
  const slots = new Uint8Array(TEMPLATES * TEMPLATE_SLOT);
  for (let slot = 0; slot < slots.length; slot += TEMPLATE_SLOT) {
    slots[slot] = 3 + random.below(10);
    for (let i = 1; i < TEMPLATE_SLOT; i++) slots[slot + i] = random.next();
  }
  return slots;
}
