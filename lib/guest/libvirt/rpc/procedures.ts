import { QEMU_PROGRAM, REMOTE_PROGRAM } from './message.ts';
import { malformed, UUID_BYTES, type XdrReader, XdrWriter } from './xdr.ts';

/** Numbers of libvirt's remote_protocol.x, which never change. */
export const PROCEDURE = {
  open: 1,
  close: 2,
  create: 9,
  createXml: 10,
  defineXml: 11,
  destroy: 12,
  xml: 14,
  info: 16,
  lookupByName: 23,
  lookupByUuid: 24,
  resume: 28,
  shutdown: 33,
  suspend: 34,
  authList: 66,
  isPersistent: 151,
  libVersion: 157,
  abortJob: 164,
  setMaxDowntime: 166,
  blockInfo: 194,
  setMaxSpeed: 207,
  state: 212,
  undefineFlags: 231,
  listAll: 273,
  jobStats: 298,
  begin3: 302,
  prepare3: 303,
  perform3: 305,
  finish3: 306,
  confirm3: 307,
  listen: 316,
  domainCapabilities: 342,
  allStats: 344,
  compareCpu: 393,
  startDirtyRate: 427,
} as const;

/** Numbers of libvirt's qemu_protocol.x, a program of their own. */
export const QEMU_PROCEDURE = { monitorCommand: 1 } as const;

/** What a daemon tells by itself, and the number of the event by which it is asked to (virDomainEventID). */
export const EVENT = {
  lifecycle: { procedure: 318, id: 0 },
  iteration: { procedure: 359, id: 20 },
  jobCompleted: { procedure: 363, id: 21 },
} as const;

/** virDomainMigrateFlags. */
export const MIGRATE = {
  live: 1,
  /** The destination leaves the guest paused. */
  paused: 32,
  /** Disks are copied: their whole content, or that of the images alone which are not backing files. */
  nonSharedDisk: 64,
  nonSharedInc: 128,
  /** Nobody else changes the domain while it is moved. */
  changeProtection: 256,
  /** Whatever becomes of its disks. */
  unsafe: 512,
} as const;

/** virDomainXMLFlags. */
export const XML = { secure: 1, inactive: 2, migratable: 8 } as const;

/** virDomainUndefineFlagsValues: what goes with a definition, and what of the guest stays. */
export const UNDEFINE = { snapshots: 2, keepNvram: 8, checkpoints: 16, keepTpm: 64 } as const;

/** virDomainStatsTypes. */
export const DIRTY_RATE_STATS = 512;

/** virConnectCompareCPUFlags. */
export const FAIL_INCOMPATIBLE = 1;

/** Of virErrorNumber. */
export const ERROR = { noDomain: 42, cpuIncompatible: 91 } as const;

/** REMOTE_DOMAIN_LIST_MAX, and more of typed parameters than any call has. */
const MAX_DOMAINS = 16_384;
const MAX_PARAMETERS = 1024;

/** A domain as the protocol names it; the id is -1 while it does not run. */
export interface DomainRef {
  readonly name: string;
  /** 16 bytes. */
  readonly uuid: Buffer;
  readonly id: number;
}

/** Typed parameters by their names. */
export type Parameters = Readonly<Record<string, string | number | boolean>>;

/** As the client hears them. */
export type DomainEvent = { readonly domain: DomainRef } & (
  | { readonly type: 'lifecycle'; readonly event: number; readonly detail: number }
  | { readonly type: 'iteration'; readonly iteration: number }
  | { readonly type: 'jobCompleted'; readonly parameters: Parameters }
);

export function writeDomain(writer: XdrWriter, { name, uuid, id }: DomainRef): XdrWriter {
  return writer.string(name).fixed(uuid).int(id);
}

/** Arguments that begin with a domain. */
export function ofDomain(domain: DomainRef): XdrWriter {
  return writeDomain(new XdrWriter(), domain);
}

export function readDomain(reader: XdrReader): DomainRef {
  return { name: reader.string(), uuid: reader.fixed(UUID_BYTES), id: reader.int() };
}

/** virTypedParameterType; those that are sent are unsigned 64 bit numbers and strings. */
const TYPE = { int: 1, unsigned: 2, long: 3, unsignedLong: 4, double: 5, boolean: 6, string: 7 };

export function writeParameters(
  writer: XdrWriter,
  parameters: Readonly<Record<string, string | number>>,
): XdrWriter {
  const all = Object.entries(parameters);
  writer.int(all.length);
  for (const [name, value] of all) {
    writer.string(name);
    if (typeof value === 'string') writer.int(TYPE.string).string(value);
    else writer.int(TYPE.unsignedLong).hyper(value);
  }
  return writer;
}

export function readParameters(reader: XdrReader): Parameters {
  const parameters: Record<string, string | number | boolean> = {};
  for (let left = reader.count(MAX_PARAMETERS); left > 0; left--) {
    const name = reader.string();
    parameters[name] = readValue(reader);
  }
  return parameters;
}

function readValue(reader: XdrReader): string | number | boolean {
  const type = reader.int();
  switch (type) {
    case TYPE.int:
      return reader.int();
    case TYPE.unsigned:
      return reader.unsigned();
    case TYPE.long:
      return Number(reader.hyper());
    case TYPE.unsignedLong:
      return Number(reader.unsignedHyper());
    case TYPE.double:
      return reader.double();
    case TYPE.boolean:
      return reader.boolean();
    case TYPE.string:
      return reader.string();
    default:
      throw malformed(`a parameter of type ${type}`);
  }
}

export function readDomains(reader: XdrReader): DomainRef[] {
  const domains: DomainRef[] = [];
  for (let left = reader.count(MAX_DOMAINS); left > 0; left--) domains.push(readDomain(reader));
  return domains;
}

/** Undefined for an event that nobody has asked for. */
export function readEvent(procedure: number, reader: XdrReader): DomainEvent | undefined {
  const begin = () => {
    reader.int(); // of the callback
    return readDomain(reader);
  };
  switch (procedure) {
    case EVENT.lifecycle.procedure: {
      const domain = begin();
      return { type: 'lifecycle', domain, event: reader.int(), detail: reader.int() };
    }
    case EVENT.iteration.procedure: {
      const domain = begin();
      return { type: 'iteration', domain, iteration: reader.int() };
    }
    case EVENT.jobCompleted.procedure: {
      const domain = begin();
      return { type: 'jobCompleted', domain, parameters: readParameters(reader) };
    }
    default:
      return undefined;
  }
}

/** A reply that is an error: its number and words. */
export function readError(reader: XdrReader): { code: number; words: string } {
  const code = reader.int();
  reader.int(); // of which part of libvirt
  return { code, words: reader.optionalString() ?? `error ${code}` };
}

/** For people. */
export function nameOf(procedure: number, program = REMOTE_PROGRAM): string {
  const numbers = program === QEMU_PROGRAM ? QEMU_PROCEDURE : PROCEDURE;
  const found = Object.entries(numbers).find(([, number]) => number === procedure);
  return found?.[0] ?? `procedure ${procedure}`;
}
