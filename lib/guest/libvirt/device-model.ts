import { GodwitError } from '../../errors.ts';
import type { GuestDescription } from '../guest.ts';
import type { StorageCopy } from '../hypervisor.ts';
import {
  checkDescription as checkQemuDescription,
  type DeviceModel,
  HYPERVISOR as QEMU,
  deviceModelOf as qemuDeviceModelOf,
} from '../qemu/device-model.ts';

export const HYPERVISOR = 'libvirt';
/** Characters of a device model; GuestOffer has room for 256 KiB (proto/WIRE.md). A domain takes a tenth. */
const MAX_CHARACTERS = 200 << 10;

/** What a destination's libvirt must be told before the first page. */
export interface LibvirtModel {
  /** The domain, as the source's libvirt has it. */
  readonly xml: string;
  /** Of the source's Begin3. */
  readonly cookie: string;
  /** What is to be its definition at the destination, as XML; undefined: it is to have none of this move. */
  readonly definition: string | undefined;
  /** Disks are copied; the cookie has how large they are. */
  readonly storage: StorageCopy | undefined;
  /** Of its QEMU's stream. */
  readonly stream: DeviceModel;
}

const BASE64 = '([A-Za-z0-9+/=]+)';
const MODEL = new RegExp(
  `^libvirt-1,xml=${BASE64},cookie=${BASE64},(?:definition=${BASE64},)?(?:storage=(all|inc),)?(qemu-stream-.*)$`,
  's',
);

/** The device model of a description, as text. @throws GodwitError hypervisor-failed when it is too long */
export function deviceModelOf(
  domain: Omit<LibvirtModel, 'stream'>,
  prologue: { readonly machine: string; readonly prologue: Buffer },
): string {
  const { xml, cookie, definition, storage } = domain;
  const parts = Object.entries({ xml, cookie, definition }).flatMap(([name, text]) =>
    text === undefined ? [] : [`${name}=${Buffer.from(text).toString('base64')},`],
  );
  if (storage !== undefined) parts.push(`storage=${storage},`);
  const text = `libvirt-1,${parts.join('')}${qemuDeviceModelOf(prologue)}`;
  if (text.length <= MAX_CHARACTERS) return text;
  const why = `the XML of the guest is too long to be sent: ${domain.xml.length} characters${definition === undefined ? '' : `, and its definition another ${definition.length}`}`;
  throw new GodwitError('hypervisor-failed', why);
}

/**
 * Reads what `deviceModelOf` made, of a description whose regions are its RAM blocks; it may come from
 * a peer.
 * @throws GodwitError bad-message
 */
export function checkDescription(description: GuestDescription): LibvirtModel {
  const { hypervisor, deviceModel } = description;
  const [, xml, cookie, definition, storage, stream] = MODEL.exec(deviceModel) ?? [];
  if (hypervisor !== HYPERVISOR || stream === undefined)
    throw new GodwitError('bad-message', 'guest description: it is not of a libvirt domain');
  return {
    xml: textOf(xml!),
    cookie: textOf(cookie!),
    definition: definition && textOf(definition),
    storage: storage as StorageCopy | undefined,
    stream: checkQemuDescription({ ...description, hypervisor: QEMU, deviceModel: stream }),
  };
}

function textOf(base64: string): string {
  return Buffer.from(base64, 'base64').toString('utf8');
}
