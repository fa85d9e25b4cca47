import path from 'node:path';
import { GodwitError } from '../../errors.ts';
import type { XenConfig } from './config.ts';

/** What a domain that arrives may have of this host; the operator of the host says so. */
export interface XenAllowed {
  /** Files and directories, with all that is in them. */
  readonly paths: readonly string[];
  readonly bridges: readonly string[];
}

/** Parts of a configuration: any other has devices of the host, or is not known. */
const PARTS = [
  ...['c_info', 'b_info', 'disks', 'nics', 'vfbs', 'vkbs', 'vtpms', 'channels'],
  ...['on_poweroff', 'on_reboot', 'on_watchdog', 'on_crash', 'on_soft_reset'],
];

/** Options for an emulator's command line, and programs by name: nothing in them is judged. */
const PROGRAMS = /^(?:extra|extra_pv|extra_hvm|bootloader|bootloader_args|exec_ssidref)$/;
/** A guest's own: it never leaves the guest. */
const OF_GUEST = ['cmdline'];

/**
 * Whether a domain with this configuration, which a peer has sent, may be made here: xl runs programs
 * that it names as root, and opens what it names. Every text with a slash in it is a path, and has to
 * be one that is allowed.
 * @throws GodwitError definition-invalid, naming what is not allowed
 */
export function requireAllowed({ all }: XenConfig, allowed: XenAllowed): void {
  for (const [key, value] of Object.entries(all)) {
    if (!PARTS.includes(key) && !isEmpty(value)) throw refusal(`"${shown(key)}"`);
    inspect(key, value, allowed);
  }
}

function inspect(key: string, value: unknown, allowed: XenAllowed): void {
  if (OF_GUEST.includes(key) || isEmpty(value)) return;
  if (PROGRAMS.test(key)) throw refusal(`"${shown(key)}"`);
  if (typeof value === 'string') inspectText(key, value, allowed);
  else if (Array.isArray(value)) for (const one of value) inspect(key, one, allowed);
  else if (typeof value === 'object')
    for (const [name, one] of Object.entries(value as object)) inspect(name, one, allowed);
}

function inspectText(key: string, text: string, { paths, bridges }: XenAllowed): void {
  if (key === 'bridge' && !bridges.includes(text))
    throw refusal(`bridge ${shown(text)} (--xen-allow-bridge)`);
  if (key.startsWith('backend_dom')) throw refusal(`"${shown(key)}"`); // a driver domain of this host
  if (!text.includes('/') && !text.includes('..')) return;
  const isIn = (dir: string) => text === dir || text.startsWith(`${dir === '/' ? '' : dir}/`);
  if (path.isAbsolute(text) && path.normalize(text) === text && paths.some(isIn)) return;
  throw refusal(`${shown(text)} as "${shown(key)}" (--xen-allow-path)`);
}

/** As libxl writes what is not there. */
function isEmpty(value: unknown): boolean {
  if (value === null || value === undefined || value === '') return true;
  return Array.isArray(value) && value.length === 0;
}

function shown(text: string): string {
  return text.slice(0, 200).replace(/\p{Cc}/gu, ' ');
}

function refusal(what: string): GodwitError {
  const text = `the configuration of the domain has ${what}, which a guest that arrives may not have here`;
  return new GodwitError('definition-invalid', text);
}
