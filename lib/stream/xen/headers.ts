import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import type { ByteWindow, Parsing } from '../byte-window.ts';
import {
  DOMAIN_TYPE,
  LIBXC_MAGIC,
  LIBXC_VERSIONS,
  LIBXL_MAGIC,
  LIBXL_VERSION,
  XL_BYTE_ORDER,
  XL_MAGIC,
  XL_MANDATORY,
} from './format.ts';
import { refuse } from './refusal.ts';

/** A domain's configuration has some KiB; its length is held before bytes are awaited. */
export const LONGEST_CONFIG = 128 * 1024;

/** xl's header without its configuration. */
const XL_HEADER_BYTES = XL_MAGIC.length + 4 * 4;
const LIBXL_HEADER_BYTES = 16;
const LIBXC_HEADER_BYTES = 24;
const DOMAIN_HEADER_BYTES = 16;

/** Bit 0 of the options of libxl and libxc. */
const BIG_ENDIAN = 1;
/** Bit 1 of libxl's: converted from the format before version 2. */
const LEGACY = 2;

/** A header: what it says, and its bytes, valid until the window is asked for more. */
export interface Header<T> {
  readonly says: T;
  readonly bytes: Buffer;
}

/** @returns the domain's configuration as xl gives it, JSON */
export function* readXlHeader(window: ByteWindow): Parsing<Header<string>> {
  const at = window.position;
  yield* window.need(XL_HEADER_BYTES);
  const fixed = Buffer.from(window.take(XL_HEADER_BYTES));
  if (!fixed.subarray(0, XL_MAGIC.length).equals(XL_MAGIC))
    refuse(at, 'something other than the magic of xl');
  const [order, mandatory, , length] = [32, 36, 40, 44].map((i) => fixed.readUInt32LE(i));
  if (order !== XL_BYTE_ORDER) refuse(at + 32, 'another byte order than little-endian');
  if (mandatory !== XL_MANDATORY)
    refuse(at + 36, `mandatory flags ${mandatory} where Godwit reads ${XL_MANDATORY}`);
  if (length! < 4 || length! > LONGEST_CONFIG)
    refuse(at + 44, `a configuration of ${length} bytes, at most ${LONGEST_CONFIG} are read`);
  yield* window.need(length!);
  const optional = window.take(length!);
  const config = optional.readUInt32LE(0);
  if (config > length! - 4)
    refuse(at + XL_HEADER_BYTES, `a configuration of ${config} bytes where ${length! - 4} are`);
  const says = optional.toString('utf8', 4, 4 + config).replace(/\0$/, '');
  return { says, bytes: Buffer.concat([fixed, optional]) };
}

export function* readLibxlHeader(window: ByteWindow): Parsing<Header<undefined>> {
  const at = window.position;
  yield* window.need(LIBXL_HEADER_BYTES);
  const bytes = window.take(LIBXL_HEADER_BYTES);
  if (!bytes.subarray(0, 8).equals(LIBXL_MAGIC))
    refuse(at, 'something other than the magic of libxl');
  const version = bytes.readUInt32BE(8);
  if (version !== LIBXL_VERSION)
    refuse(at + 8, `version ${version} of libxl's format where Godwit reads ${LIBXL_VERSION}`);
  const options = bytes.readUInt32BE(12);
  if (options & BIG_ENDIAN) refuse(at + 12, 'big-endian records');
  if (options & LEGACY) refuse(at + 12, 'a legacy stream that was converted');
  return { says: undefined, bytes };
}

/** @returns whether the guest is a PV one */
export function* readLibxcHeaders(window: ByteWindow): Parsing<Header<{ isPv: boolean }>> {
  const at = window.position;
  yield* window.need(LIBXC_HEADER_BYTES + DOMAIN_HEADER_BYTES);
  const bytes = window.take(LIBXC_HEADER_BYTES + DOMAIN_HEADER_BYTES);
  if (!bytes.subarray(0, 12).equals(LIBXC_MAGIC))
    refuse(at, 'something other than the marker of libxc');
  const version = bytes.readUInt32BE(12);
  if (!LIBXC_VERSIONS.includes(version))
    refuse(at + 12, `version ${version} of libxc's format where Godwit reads 2 and 3`);
  if (bytes.readUInt16BE(16) & BIG_ENDIAN) refuse(at + 16, 'big-endian records');
  const type = bytes.readUInt32LE(24);
  if (type !== DOMAIN_TYPE.PV && type !== DOMAIN_TYPE.HVM)
    refuse(at + 24, `a domain of type ${type} where Godwit moves those of x86, 1 and 2`);
  const shift = bytes.readUInt16LE(28);
  if (2 ** shift !== PAGE_SIZE)
    refuse(at + 28, `pages of 2^${shift} bytes where Godwit moves ${PAGE_SIZE}`);
  return { says: { isPv: type === DOMAIN_TYPE.PV }, bytes };
}
