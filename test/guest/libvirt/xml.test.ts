import { describe, expect, test } from 'vitest';
import { requireAllowed } from '../../../lib/guest/libvirt/allowed.ts';
import { cookieFor, readCookie } from '../../../lib/guest/libvirt/cookie.ts';
import { parseXml, xmlOf } from '../../../lib/xml.ts';

/** As libvirt writes one for a migration. */
const DOMAIN = `<domain type='kvm'>
  <name>web1</name>
  <uuid>11111111-2222-3333-4444-555555555555</uuid>
  <metadata><x:instance xmlns:x='http://example.org/x' path='/etc/shadow'/></metadata>
  <memory unit='KiB'>262144</memory>
  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
  <resource><partition>/machine</partition></resource>
  <vcpu placement='static'>1</vcpu>
  <os><type arch='x86_64' machine='pc-q35-10.0'>hvm</type><boot dev='hd'/></os>
  <features><acpi/><hyperv mode='custom'><relaxed state='on'/></hyperv></features>
  <cpu mode='custom' match='exact'><model fallback='forbid'>qemu64</model></cpu>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='/var/lib/libvirt/images/web1.qcow2'/>
      <backingStore/><target dev='vda' bus='virtio'/><serial>WD-1234</serial>
    </disk>
    <interface type='network'><source network='default'/><model type='virtio'/></interface>
    <serial type='pty'><target port='0'/></serial>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    <graphics type='vnc' port='-1' autoport='yes'><listen type='address' address='127.0.0.1'/></graphics>
    <memballoon model='virtio'><stats period='5'/></memballoon>
  </devices>
  <seclabel type='dynamic' model='dac' relabel='yes'/>
</domain>`;

const ALLOWED = { paths: ['/var/lib/libvirt/images', '/srv/one.img'], networks: ['default'] };

/** Whether the domain is taken with that in place of a text in it. */
function judge(there: string, instead: string, allowed = ALLOWED): string {
  expect(DOMAIN).toContain(there);
  try {
    requireAllowed(parseXml(DOMAIN.replace(there, instead)), allowed);
    return 'taken';
  } catch (error) {
    return (error as Error).message;
  }
}

describe('what an arriving domain may have', () => {
  test('is what the operator has allowed', () => {
    expect(judge('web1', 'web1')).toBe('taken');
    const disk = "source file='/var/lib/libvirt/images/web1.qcow2'";
    expect(judge(disk, "source file='/srv/one.img'")).toBe('taken');
    expect(judge('web1', 'web1', { paths: [], networks: ['default'] })).toMatch(/allow-path/);
    expect(judge('web1', 'web1', { ...ALLOWED, networks: [] })).toMatch(/allow-network/);
  });

  test.each([
    "file='/etc/shadow'",
    "file='/var/lib/libvirt/images/../../../../etc/shadow'",
    "file='/var/lib/libvirt/images2/x'",
    "file='/var/lib/libvirt/images'  dev='/dev/sda'",
    "file='json:{&quot;driver&quot;:&quot;nbd&quot;}'",
    "file='images/x'",
    "dir='/'",
  ])('not a disk with %s', (source) => {
    expect(judge("file='/var/lib/libvirt/images/web1.qcow2'", source)).toMatch(/allow-path/);
  });

  const device = (xml: string) => judge('<devices>', `<devices>${xml}`);
  test.each([
    "<hostdev mode='subsystem' type='pci'/>",
    "<filesystem type='mount'><source dir='/'/></filesystem>",
    "<tpm model='tpm-tis'/>",
    "<shmem name='x'/>",
    "<smartcard mode='host'/>",
    "<redirdev bus='usb' type='tcp'/>",
    "<qemu:commandline><qemu:arg value='-s'/></qemu:commandline>",
    "<disk type='network'><source protocol='nbd' name='x'/></disk>",
    "<disk type='file'><backingStore type='network'><source protocol='nbd'/></backingStore></disk>",
    "<disk type='vhostuser'/>",
    "<interface type='user'/>",
    "<interface type='vhostuser'><source type='unix' path='/x' mode='client'/></interface>",
    "<interface type='bridge'><source bridge='br0'/></interface>",
    "<interface type='network'><source network='default' file='/x'/></interface>",
    "<serial type='dev'><source path='/dev/ttyS0'/></serial>",
    "<serial type='tcp'><source host='10.0.0.1' service='22'/></serial>",
    "<serial type='pipe'><source path='/x'/></serial>",
    "<serial type='file'><source path='/etc/cron.d/x'/></serial>",
    "<serial type='file'><source path='etc/cron.d/x'/></serial>",
    "<serial type='pty'><log file='x'/></serial>",
    "<console type='unix'><source mode='connect' path='/run/docker.sock'/></console>",
    "<input type='evdev'><source dev='/dev/input/event0'/></input>",
    "<rng model='virtio'><backend model='egd' type='unix'><source path='/x'/></backend></rng>",
    "<rng model='virtio'><backend model='random'>/dev/sda</backend></rng>",
    "<graphics type='vnc' socket='/x'/>",
    "<graphics type='dbus'/>",
    "<video><driver vgaconf='io'/><model type='qxl' rom='/x'/></video>",
    "<controller type='scsi'><driver><x:y/></driver></controller>",
    "<memory model='nvdimm'><source><path>/dev/sda</path></source></memory>",
    "<sound model='ich9'><x file='/x'/></sound>",
    '<emulator>/tmp/qemu</emulator>',
    '<emulator>/usr/bin/../../tmp/qemu</emulator>',
  ])('not %s', (xml) => {
    expect(device(xml)).toMatch(/allow/);
  });

  test('no other kind of domain, no label of its own, no firmware of its own', () => {
    expect(judge("type='kvm'", "type='xen'")).toMatch(/<domain type='xen'>/);
    expect(judge("seclabel type='dynamic'", "seclabel type='none'")).toMatch(/<seclabel/);
    expect(judge("<boot dev='hd'/>", '<loader>/x</loader>')).toMatch(/allow-path/);
    expect(judge("<boot dev='hd'/>", '<kernel>x</kernel>')).toMatch(/allow-path/);
    expect(judge("<boot dev='hd'/>", '<nvram>relative</nvram>')).toMatch(/allow-path/);
    const entry = "<sysinfo type='fwcfg'><entry name='opt/x' file='shadow'/></sysinfo><features>";
    expect(judge('<features>', entry.replace('opt/', ''))).toMatch(/allow-path/);
  });
});

describe('XML', () => {
  test('is read, and written again', () => {
    const root = parseXml("<a b='&lt;&#65;&#x42;'>x &amp; y<!-- - no --><c/></a>");
    expect(root.attributes.get('b')).toBe('<AB');
    expect(root.text).toBe('x & y');
    expect(parseXml(xmlOf(root))).toEqual(root);
    expect(parseXml(xmlOf(parseXml(DOMAIN)))).toEqual(parseXml(DOMAIN));
  });

  test.each([
    '',
    'x',
    '<a>',
    '</a>',
    '<a></b>',
    '<a/><b/>',
    "<a b='1' b='2'/>",
    "<a b='<'/>",
    '<a b=1/>',
    '<a>&other;</a>',
    '<a>&#0;</a>',
    '<a>&amp</a>',
    '<!DOCTYPE a><a/>',
    '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    '<a><![CDATA[<b/>]]></a>',
    '<?xml-stylesheet href="x"?><a/>',
    '<a><!-- -- --></a>',
    `${'<a>'.repeat(100)}${'</a>'.repeat(100)}`,
    `<a>${'x'.repeat(1 << 20)}</a>`,
  ])('refuses %.60s', (xml) => {
    expect(() => parseXml(xml)).toThrow('the XML is refused');
  });

  test('every cut is refused', () => {
    for (let at = 0; at < DOMAIN.length; at++)
      expect(() => parseXml(DOMAIN.slice(0, at)), `${at}`).toThrow('is refused');
  });

  test('a long comment and a long text take no longer than they are', () => {
    const long = (text: string) => parseXml(`<a>${text}</a>`);
    expect(long(`<!--${'-x'.repeat(400_000)}-->`).text).toBe('');
    expect(() => long(`<b ${'c '.repeat(400_000)}/>`)).toThrow('is refused');
  });
});

test('a cookie says what the agents can do, and the CPU of the source', () => {
  const uuid = '11111111-2222-3333-4444-555555555555';
  const cpu = parseXml("<cpu mode='custom'><model>qemu64</model></cpu>");
  const made = { name: 'a<b', uuid, capabilities: ['return-path'], cpu };
  const cookie = cookieFor(made).toString();
  expect(cookie).toMatch(/\0$/);
  expect(readCookie(cookie)).toEqual({ cpu, canHold: false, capacities: new Map() });
  const holds = cookieFor({ ...made, capabilities: ['switchover-ack'] }).toString();
  expect(readCookie(holds).canHold).toBe(true);
  expect(() => readCookie('<x')).toThrow('is refused');
});
