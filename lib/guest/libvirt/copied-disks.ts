import { child, type Element } from '../../xml.ts';

/** A disk whose content goes with the guest. */
export interface CopiedDisk {
  /** As the guest's XML calls it: `vda`. */
  readonly target: string;
  /** The file or device that has it. */
  readonly image: string;
  readonly isFile: boolean;
  readonly format: string;
}

/** Those that libvirt copies when it is told to: not what others share with the guest, or it only reads. */
export function copiedDisks(domain: Element): readonly CopiedDisk[] {
  return disksOf(domain).filter(isCopied).map(copied);
}

/** Files and devices that the domain's disks are made of, whether copied or not, with all that is below them. */
export function imagesOf(domain: Element): readonly string[] {
  return disksOf(domain).flatMap(chainOf);
}

function chainOf(layer: Element): string[] {
  const below = layer.children.filter(({ name }) => name === 'backingStore');
  return [sourceOf(layer) ?? [], ...below.map(chainOf)].flat();
}

/**
 * The XML for a destination that gets the whole content of the disks: nothing is below their images
 * there but what these say themselves.
 */
export function withoutBacking(domain: Element): Element {
  const children = domain.children.map((one) =>
    one.name === 'devices' ? { ...one, children: one.children.map(flat) } : one,
  );
  return { ...domain, children };
}

function flat(device: Element): Element {
  if (device.name !== 'disk' || !isCopied(device)) return device;
  return { ...device, children: device.children.filter(({ name }) => name !== 'backingStore') };
}

function disksOf(domain: Element): Element[] {
  return (child(domain, 'devices')?.children ?? []).filter(({ name }) => name === 'disk');
}

function isCopied(disk: Element): boolean {
  const isLeft = ['readonly', 'shareable'].some((one) => child(disk, one) !== undefined);
  return !isLeft && sourceOf(disk) !== undefined;
}

function sourceOf(disk: Element): string | undefined {
  const { attributes } = child(disk, 'source') ?? {};
  return attributes?.get('file') ?? attributes?.get('dev');
}

function copied(disk: Element): CopiedDisk {
  return {
    target: child(disk, 'target')?.attributes.get('dev') ?? '',
    image: sourceOf(disk)!,
    isFile: disk.attributes.get('type') === 'file',
    format: child(disk, 'driver')?.attributes.get('type') ?? 'raw',
  };
}
