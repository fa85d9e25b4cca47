import type { GodwitError } from '../errors.ts';
import { GUEST_NAME_RULE, isGuestName } from '../guest-name.ts';
import { parseAddress } from '../wire/address.ts';

/** What an action answers: exit codes of the OCF resource agent API 1.1. */
export const OCF = {
  success: 0,
  failed: 1,
  unimplemented: 3,
  installed: 5,
  configured: 6,
  notRunning: 7,
} as const;

/** An action's answer that is not what was hoped for, and why. */
export class Failure extends Error {
  readonly code: number;

  constructor(message: string, code: number = OCF.failed) {
    super(message);
    this.code = code;
  }
}

export const KINDS = ['libvirt', 'qemu', 'simulated'] as const;
export type Kind = (typeof KINDS)[number];

/** Of what Pacemaker grants an action, the part that is left for answering, ms. */
const RESERVE_MS = 5000;
/** Of an action by hand, ms. */
const TIMEOUT_MS = 60_000;
const PORT = 7070;

/** What Pacemaker says with an action, in variables of its environment. */
export interface Call {
  /** As the cluster calls it. */
  readonly resource: string;
  readonly guest: string;
  readonly kind: Kind;
  /** XML of a domain that libvirt does not know by itself. */
  readonly xml: string | undefined;
  /** Memory of a simulated guest. */
  readonly memory: string | undefined;
  /** Options of both agents as their files have them. */
  readonly configs: { readonly send: string; readonly recv: string };
  readonly maxSuspendMs: string | undefined;
  readonly prefer: string | undefined;
  /** That it is to move to. */
  readonly node: string | undefined;
  /** Where agent-recv of that node listens. */
  readonly target: { readonly host: string; readonly port: number } | undefined;
  /** When the answer has to be there, by `performance.now()`. */
  readonly deadlineMs: number;
  /** What is granted in all, ms. */
  readonly timeoutMs: number;
  /** A failed `migrate_to` leaves the resource alone, as the cluster is configured. */
  readonly blocks: boolean;
}

/** @throws Failure configured */
export function callOf(env: NodeJS.ProcessEnv): Call {
  const given = (name: string) => env[`OCF_RESKEY_${name}`] || undefined;
  const resource = env.OCF_RESOURCE_INSTANCE ?? '';
  const guest = given('guest') ?? resource;
  if (!isGuestName(guest)) throw new Failure(`guest: ${GUEST_NAME_RULE}`, OCF.configured);
  const kind = KINDS.find((one) => one === (given('kind') ?? 'libvirt'));
  if (kind === undefined)
    throw new Failure(`kind is one of ${KINDS.join(', ')}, not ${given('kind')}`, OCF.configured);
  const timeoutMs = Number(given('CRM_meta_timeout') ?? TIMEOUT_MS);
  const node = given('CRM_meta_migrate_target');
  return {
    ...{ resource, guest, kind, timeoutMs },
    xml: given('xml'),
    memory: given('memory'),
    configs: {
      send: given('send_config') ?? '/etc/godwit/agent-send.json',
      recv: given('recv_config') ?? '/etc/godwit/agent-recv.json',
    },
    maxSuspendMs: given('max_suspend_time'),
    prefer: given('prefer'),
    node,
    target: node === undefined ? undefined : targetOf(node, given('hosts') ?? ''),
    deadlineMs: performance.now() + Math.max(timeoutMs / 2, timeoutMs - RESERVE_MS),
    blocks: given('CRM_meta_on_fail') === 'block',
  };
}

/** @param hosts `n1=hosta n2=hostb:7071`; a node that is not there is reached by its own name */
function targetOf(node: string, hosts: string): NonNullable<Call['target']> {
  const found = hosts.split(/\s+/).find((one) => one.startsWith(`${node}=`));
  const text = found?.slice(node.length + 1) ?? node;
  try {
    return /:\d+$/.test(text) ? parseAddress(text) : { host: text, port: PORT };
  } catch (error) {
    throw new Failure(`hosts: ${(error as GodwitError).message}`, OCF.configured);
  }
}
