import fs from 'node:fs';
import path from 'node:path';
import { GodwitError } from '../../errors.ts';
import { GUEST_NAME_RULE, isGuestName } from '../../guest-name.ts';
import { parseDuration, parseSize } from '../../units.ts';
import type { Moment } from '../guest.ts';
import type { Hook } from '../hooks.ts';
import { Field, type Refuse } from './definition-fields.ts';
import { type RamEntry, readRam } from './definition-ram.ts';
import { readTrusted, requireTrusted } from './trusted-file.ts';

/** The kernel's sun_path has 108 bytes, one of them a NUL. */
const MAX_SOCKET_PATH = 107;
const HOOK_LIMIT_MS = 10_000;
const MAX_HOOK_LIMIT_MS = 3_600_000;

/** RAM whose bytes stand in a file that QEMU maps with share=on: pages are written right into it. */
export interface RamFile {
  /** `pc.ram`, or the id of the memory backend object. */
  readonly block: string;
  /** Absolute, its directories resolved. */
  readonly file: string;
}

const MOMENTS = ['preSuspend', 'postResume', 'postRelease'] as const satisfies Moment[];

/** What an operator says about a QEMU guest on one host; the same format on both sides. */
export interface GuestDefinition {
  readonly name: string;
  /** Where it was read. */
  readonly file: string;
  readonly hypervisor: 'qemu';
  /** The Unix socket of QEMU's monitor. */
  readonly qmp: string;
  /** How a destination starts it, without what makes it wait; absent on a host that only sends. */
  readonly command?: readonly string[];
  /** Empty when memory travels in QEMU's stream. */
  readonly ram: readonly RamFile[];
  readonly hooks: Readonly<Partial<Record<Moment, Hook>>>;
  /** `memory`: bytes of guest memory that may arrive. */
  readonly limits: { readonly memory?: number };
}

/** A file that is no definition, with the reason. */
export interface BrokenDefinition {
  readonly name: string;
  readonly error: GodwitError;
}

/** What the agent adds to a command, or what keeps it from finding the process. */
const AGENTS_OWN: ReadonlyMap<string, string> = new Map([
  ['S', 'the agent adds it, so that the guest does not run before it has arrived'],
  ['incoming', 'the agent adds "-incoming defer" and says later where the guest comes from'],
  ['daemonize', 'the agent starts QEMU in the background itself and has to know its process'],
]);

/**
 * Reads `DIR/NAME.json`.
 * @param ramDirs RAM files may lie in these directories and below, and nowhere else
 * @throws GodwitError unknown-guest when there is none; definition-invalid, naming file and key
 */
export function loadDefinition(
  dir: string,
  name: string,
  ramDirs: readonly string[],
): GuestDefinition {
  if (!isGuestName(name)) throw new GodwitError('unknown-guest', GUEST_NAME_RULE);
  const names = namesIn(dir);
  if (!names.includes(name)) throw unknownGuest(dir, name, names);
  const file = path.join(dir, `${name}.json`);
  requireTrusted(fs.statSync(dir), refusalOf(dir));
  const refuse = refusalOf(file);
  const root = parse(readTrusted(file, refuse), refuse);
  return { name, file, ...readFields(new Field(root, '', refuse), ramDirs) };
}

/** Whether there is a definition of that name, be it good or broken. */
export function hasDefinition(dir: string, name: string): boolean {
  return isGuestName(name) && namesIn(dir).includes(name);
}

/**
 * All definitions of a directory by name; a broken one does not hide the others. No directory: none.
 * @throws GodwitError definition-invalid when the directory cannot be read
 */
export function listDefinitions(
  dir: string,
  ramDirs: readonly string[],
): (GuestDefinition | BrokenDefinition)[] {
  return namesIn(dir).map((name) => {
    try {
      return loadDefinition(dir, name, ramDirs);
    } catch (error) {
      if (error instanceof GodwitError) return { name, error };
      throw error;
    }
  });
}

function namesIn(dir: string): string[] {
  try {
    const files = fs.readdirSync(dir).filter((file) => file.endsWith('.json'));
    return files.map((file) => file.slice(0, -'.json'.length)).sort();
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return [];
    throw refusalOf(dir)(`cannot be read: ${code}`, cause);
  }
}

function unknownGuest(dir: string, name: string, names: readonly string[]): GodwitError {
  const known = names.length === 0 ? 'there are none' : `there are ${names.join(', ')}`;
  return new GodwitError('unknown-guest', `no definition of guest "${name}" in ${dir}; ${known}`);
}

function refusalOf(place: string): Refuse {
  return (why, cause) => new GodwitError('definition-invalid', `${place}: ${why}`, { cause });
}

function parse(text: string, refuse: Refuse): object {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw refuse(`is not JSON: ${(cause as Error).message.replaceAll('\n', ' ')}`, cause);
  }
  if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)) return parsed;
  throw refuse('is not a JSON object');
}

function readFields(root: Field, ramDirs: readonly string[]) {
  const keys = ['hypervisor', 'qmp', 'command', 'ram', 'hooks', 'limits'] as const;
  const { hypervisor, qmp, command, ram, hooks, limits } = root.members(...keys);
  if (hypervisor.text() !== 'qemu')
    throw hypervisor.refusal(`must be "qemu", not "${hypervisor.text()}"`);
  const socket = readSocket(qmp);
  const ramFiles = readRam(ram, ramDirs);
  return {
    hypervisor: 'qemu' as const,
    qmp: socket,
    ...(command.present && { command: readCommand(command, socket, ramFiles) }),
    ram: ramFiles.map(({ block, resolved }) => ({ block, file: resolved })),
    hooks: readHooks(hooks),
    limits: readLimits(limits),
  };
}

function readSocket(qmp: Field): string {
  const socket = qmp.absolutePath();
  if (Buffer.byteLength(socket) > MAX_SOCKET_PATH)
    throw qmp.refusal(`is longer than the ${MAX_SOCKET_PATH} bytes of a Unix socket's path`);
  return socket;
}

function readCommand(field: Field, qmp: string, ram: readonly RamEntry[]): readonly string[] {
  const command = field.command();
  for (const argument of command.slice(1)) {
    const why = AGENTS_OWN.get(/^--?(.*)/s.exec(argument)?.[1] ?? '');
    if (why !== undefined) throw field.refusal(`may not contain "${argument}": ${why}`);
  }
  if (!mentions(command, qmp))
    throw field.refusal(
      `does not open the QMP socket ${qmp}: add "-qmp unix:${qmp},server=on,wait=off"`,
    );
  for (const { block, written } of ram)
    if (!mentions(command, written))
      throw field.refusal(`gives no memory backend the file ${written} of RAM block "${block}"`);
  return command;
}

/** Whether a path stands in one of QEMU's options, in which a comma ends a value unless doubled. */
function mentions(command: readonly string[], file: string): boolean {
  const text = file.replaceAll(',', ',,');
  return command.some((argument) => {
    const at = argument.indexOf(text);
    return at >= 0 && [undefined, ',', '"'].includes(argument[at + text.length]);
  });
}

function readHooks(hooks: Field): Partial<Record<Moment, Hook>> {
  if (!hooks.present) return {};
  const fields = hooks.members(...MOMENTS);
  const given = MOMENTS.filter((name) => fields[name].present);
  return Object.fromEntries(given.map((name) => [name, readHook(fields[name])]));
}

function readHook(hook: Field): Hook {
  const { command, timeout } = hook.members('command', 'timeout');
  const range = { min: 1, max: MAX_HOOK_LIMIT_MS };
  const limitMs = () => timeout.quantity((text, key) => parseDuration(text, key, range));
  return { command: command.command(), limitMs: timeout.present ? limitMs() : HOOK_LIMIT_MS };
}

function readLimits(limits: Field): { memory?: number } {
  if (!limits.present) return {};
  const { memory } = limits.members('memory');
  if (!memory.present) return {};
  return { memory: memory.quantity((text, key) => parseSize(text, key, { min: 1 })) };
}
