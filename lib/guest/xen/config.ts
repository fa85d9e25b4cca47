import { GodwitError } from '../../errors.ts';
import { GUEST_NAME_RULE, isGuestName } from '../../guest-name.ts';

/** What is read of a domain's configuration, which libxl writes as JSON (libxl_domain_config). */
export interface XenConfig {
  readonly name: string;
  /** With dashes, lower case. */
  readonly uuid: string;
  readonly type: 'pv' | 'hvm' | 'pvh';
  readonly memoryBytes: number;
  /** All of it, for who judges it. */
  readonly all: Readonly<Record<string, unknown>>;
}

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** @throws GodwitError bad-message for what is no configuration of a guest that can be moved */
export function readConfig(text: string): XenConfig {
  const all = parse(text);
  const about = fieldsOf(all.c_info);
  const build = fieldsOf(all.b_info);
  const { name, type } = about;
  const uuid = typeof about.uuid === 'string' ? about.uuid.toLowerCase() : '';
  const kb = build.max_memkb;
  if (typeof name !== 'string' || !isGuestName(name)) throw refusal(GUEST_NAME_RULE);
  if (!UUID.test(uuid)) throw refusal('it has no UUID');
  if (type !== 'pv' && type !== 'hvm' && type !== 'pvh') throw refusal('its type is not known');
  if (typeof kb !== 'number' || !Number.isSafeInteger(kb) || kb < 1 || kb > 2 ** 34)
    throw refusal('it does not say how much memory the domain has');
  return { name, uuid, type, memoryBytes: kb * 1024, all };
}

function parse(text: string): Readonly<Record<string, unknown>> {
  try {
    return fieldsOf(JSON.parse(text));
  } catch {
    throw refusal('it is no JSON');
  }
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  return isObject ? (value as Record<string, unknown>) : {};
}

function refusal(why: string): GodwitError {
  return new GodwitError('bad-message', `the configuration of a domain of Xen: ${why}`);
}
