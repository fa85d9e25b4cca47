import { randomUUID } from 'node:crypto';
import { child, type Element, escaped, parseXml, xmlOf } from '../../xml.ts';

/** The other end that a libvirt's QEMU has, as a cookie tells it. */
interface OtherEnd {
  readonly name: string;
  /** With dashes. */
  readonly uuid: string;
  /** Capabilities of QEMU's migration that it has. */
  readonly capabilities: readonly string[];
  /** The virtual CPU as it is at the source. */
  readonly cpu?: Element | undefined;
  /** Bytes of the disks that it copies, by their names; empty at the source, whose libvirt knows them. */
  readonly disks?: ReadonlyMap<string, number> | undefined;
}

/** What the thread that a source migrates to can do. */
export const INGEST_CAPABILITIES = ['return-path', 'switchover-ack'];
/** What the thread that migrates to a destination can do. */
export const EGRESS_CAPABILITIES = ['return-path'];

/**
 * What a libvirt hears of the other one: in between are the agents, and what they can do is what
 * counts. A cookie must be there: libvirt 11.3 dies of a Perform3 that has none.
 */
export function cookieFor({ name, uuid, capabilities, cpu, disks }: OtherEnd): Buffer {
  const caps = capabilities.map((one) => `<cap name='${one}' auto='no'/>`).join('');
  const xml = [
    '<qemu-migration>',
    `<name>${escaped(name)}</name><uuid>${escaped(uuid)}</uuid>`,
    // Libvirt refuses to migrate to its own host; and the source's may be known to it as its own.
    `<hostname>godwit</hostname><hostuuid>${randomUUID()}</hostuuid>`,
    cpu === undefined ? '' : xmlOf(cpu),
    disks === undefined ? '' : nbd(disks),
    `<capabilities>${caps}</capabilities>`,
    '</qemu-migration>',
  ];
  return Buffer.from(`${xml.join('')}\0`);
}

/** Without it libvirt copies no disk. The port is not used: there is a socket. */
function nbd(disks: ReadonlyMap<string, number>): string {
  const each = [...disks].map(
    ([target, capacity]) => `<disk target='${escaped(target)}' capacity='${capacity}'/>`,
  );
  return `<nbd port='0'>${each.join('')}</nbd>`;
}

export interface SourceCookie {
  readonly cpu: Element | undefined;
  /** Its QEMU asks before it stops the guest. */
  readonly canHold: boolean;
  /** Bytes of its disks, by their names. */
  readonly capacities: ReadonlyMap<string, number>;
}

/** What is taken of the cookie of a Begin3; it may come from a peer. @throws GodwitError bad-message */
export function readCookie(cookie: string): SourceCookie {
  const root = parseXml(cookie.replace(/\0$/, ''));
  const caps = child(root, 'capabilities')?.children ?? [];
  return {
    cpu: child(root, 'cpu'),
    canHold: caps.some(({ attributes }) => attributes.get('name') === 'switchover-ack'),
    capacities: new Map(child(root, 'nbd')?.children.flatMap(capacityOf)),
  };
}

function capacityOf({ attributes }: Element): (readonly [string, number])[] {
  const target = attributes.get('target');
  const capacity = Number(attributes.get('capacity'));
  return target !== undefined && Number.isSafeInteger(capacity) ? [[target, capacity]] : [];
}
