import { expect, test } from 'vitest';
import { keepsNothing } from '../../../lib/guest/libvirt/keeps.ts';
import { parseXml } from '../../../lib/xml.ts';

const domain = (devices: string, more = '') =>
  parseXml(
    `<domain type='kvm'>${more}<devices><emulator>/usr/bin/kvm</emulator>${devices}</devices></domain>`,
  );

test('a domain keeps nothing that only reads its disks', () => {
  const cdrom = "<disk type='file' device='cdrom'><source file='/a.iso'/><readonly/></disk>";
  const network = "<interface type='network'><source network='default'/></interface>";
  expect(keepsNothing(domain(''))).toBe(true);
  expect(keepsNothing(domain(`${cdrom}${network}<rng model='virtio'/>`))).toBe(true);
});

test('what it writes may have been written by another copy of it', () => {
  const disk = "<disk type='file' device='disk'><source file='/a.img'/></disk>";
  for (const kept of [
    ...[
      disk,
      "<filesystem type='mount'/>",
      "<tpm model='tpm-tis'/>",
      "<hostdev mode='subsystem'/>",
    ],
    ...["<shmem name='x'/>", "<memory model='nvdimm'/>", '<pstore/>'],
  ])
    expect(keepsNothing(domain(kept)), kept).toBe(false);
  expect(keepsNothing(domain('', '<os><nvram>/var/vars.fd</nvram></os>'))).toBe(false);
  const own = "<qemu:commandline xmlns:qemu='q'><qemu:arg value='-drive'/></qemu:commandline>";
  expect(keepsNothing(domain('', own))).toBe(false);
});
