import { readFileSync } from 'node:fs';
import path from 'node:path';
import { GodwitError } from '../../errors.ts';
import { type BootProcess, inThisBoot } from '../handle.ts';
import { identify, looked } from '../process-identity.ts';
import type { DomainRef } from './rpc/procedures.ts';

/**
 * The QEMU of a domain that runs: libvirt keeps its pid beside its own socket, and has written the
 * domain's UUID into its command line.
 * @throws GodwitError not-seen
 */
export function processOf(socket: string, { name, uuid }: DomainRef): BootProcess {
  const file = path.join(path.dirname(socket), 'qemu', `${name}.pid`);
  const pid = Number(looked(() => readFileSync(file, 'latin1'))?.trim());
  const words = looked(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8'))?.split('\0') ?? [];
  const process = identify(pid);
  const at = words.indexOf('-uuid');
  if (process !== undefined && at !== -1 && words[at + 1] === uuidText(uuid))
    return inThisBoot(process);
  const text = `libvirt's QEMU of guest ${name} is not to be found by ${file}, or hidden from this agent`;
  throw new GodwitError('not-seen', text);
}

/** With dashes. */
export function uuidText(uuid: Uint8Array): string {
  const hex = Buffer.from(uuid).toString('hex');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** Undefined for what is none. */
export function uuidBytes(text: string): Buffer | undefined {
  const hex = text.replaceAll('-', '').toLowerCase();
  return /^[0-9a-f]{32}$/.test(hex) ? Buffer.from(hex, 'hex') : undefined;
}
