import { isOptional, LIBXC, LIBXL, LONGEST_LIBXC_RECORD } from './format.ts';
import { refuse } from './refusal.ts';

/** Device state of an emulator has some MiB; as much as is read of QEMU's own stream. */
const LONGEST_LIBXL_RECORD = 256 * 1024 * 1024;

/** Records without a body. */
const EMPTY_LIBXL: readonly number[] = [LIBXL.END, LIBXL.LIBXC_CONTEXT];
const EMPTY_LIBXC: readonly number[] = [LIBXC.END, LIBXC.VERIFY, LIBXC.STATIC_DATA_END];

/** What a record has to do with, when it has nothing to do with a migration. */
const FOREIGN_LIBXL: Readonly<Record<number, string>> = {
  [LIBXL.CHECKPOINT_END]: 'CHECKPOINT_END, of Remus or COLO, whose guests are not moved',
  [LIBXL.CHECKPOINT_STATE]: 'CHECKPOINT_STATE, of COLO, whose guests are not moved',
};
const FOREIGN_LIBXC: Readonly<Record<number, string>> = {
  [LIBXC.CHECKPOINT]: 'CHECKPOINT, of Remus or COLO, whose guests are not moved',
  [LIBXC.CHECKPOINT_DIRTY_PFN_LIST]:
    'CHECKPOINT_DIRTY_PFN_LIST, of COLO, whose guests are not moved',
  [LIBXC.TOOLSTACK]: 'TOOLSTACK, which no Xen has written since 4.6',
};

/**
 * Refuses a record of libxl that has no place where it stands.
 * @param hasMemory its LIBXC_CONTEXT was read
 */
export function checkLibxl(at: number, type: number, length: number, hasMemory: boolean): void {
  const foreign = FOREIGN_LIBXL[type];
  if (foreign !== undefined) refuse(at, foreign);
  requireKnown(at, 'libxl', type, LIBXL);
  if (EMPTY_LIBXL.includes(type)) requireEmpty(at, 'libxl', type, length);
  if (length > LONGEST_LIBXL_RECORD)
    refuse(at, `a record of libxl with ${length} bytes, ${LONGEST_LIBXL_RECORD} are read`);
  if (type === LIBXL.LIBXC_CONTEXT && hasMemory) refuse(at, 'LIBXC_CONTEXT for the second time');
  if (type === LIBXL.END && !hasMemory) refuse(at, 'its END before the memory of the guest');
}

/** Refuses a record of libxc that has no place in a migration. */
export function checkLibxc(at: number, type: number, length: number): void {
  const foreign = FOREIGN_LIBXC[type];
  if (foreign !== undefined) refuse(at, foreign);
  requireKnown(at, 'libxc', type, LIBXC);
  if (EMPTY_LIBXC.includes(type)) requireEmpty(at, 'libxc', type, length);
  if (length > LONGEST_LIBXC_RECORD)
    refuse(at, `a record of libxc with ${length} bytes, ${LONGEST_LIBXC_RECORD} are allowed`);
}

function requireKnown(
  at: number,
  layer: string,
  type: number,
  known: Readonly<Record<string, number>>,
): void {
  if (isOptional(type) || Object.values(known).includes(type)) return;
  refuse(at, `a mandatory record of ${layer} that Godwit does not know, type ${hex(type)}`);
}

function requireEmpty(at: number, layer: string, type: number, length: number): void {
  if (length !== 0)
    refuse(at, `a record of ${layer}, type ${hex(type)}, with ${length} bytes, not 0`);
}

function hex(type: number): string {
  return `0x${type.toString(16)}`;
}
