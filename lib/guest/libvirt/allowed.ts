import path from 'node:path';
import { GodwitError } from '../../errors.ts';
import { formatSize } from '../../units.ts';
import { child, type Element } from '../../xml.ts';

/** What a guest that arrives may have of this host; the operator of the host says so. */
export interface Allowed {
  /** Files and directories, with all that is in them. */
  readonly paths: readonly string[];
  /** Of libvirt's networks, and bridges. */
  readonly networks: readonly string[];
}

/** Emulators of distributions: whatever they run, they run it as libvirt has it. */
const EMULATOR = /^\/usr\/(?:bin|libexec)\/(?:qemu-system-[a-z0-9_]+|qemu-kvm|kvm)$/;
/** Anybody may read them. */
const RANDOM = ['/dev/urandom', '/dev/random'];

/** Whatever is in these: libvirt does not look at what is said of the guest in the first one. */
const OPAQUE = ['metadata'];
/** Settings of the virtual hardware; of what is in them no element names anything of the host. */
const SETTINGS = [
  ...['features', 'cpu', 'clock', 'pm', 'sysinfo', 'cputune', 'iothreadids', 'iotune', 'stats'],
  ...['vcpus', 'bootmenu', 'smbios', 'idmap', 'blkiotune', 'bandwidth', 'vlan', 'hyperv'],
];
/** All others that a guest may have: what is in none of these lists is refused. */
const ELEMENTS = [
  ...['domain', 'name', 'uuid', 'genid', 'title', 'description', 'memory', 'currentMemory'],
  ...['maxMemory', 'memoryBacking', 'access', 'allocation', 'discard', 'hugepages', 'page'],
  ...['nosharepages', 'vcpu', 'iothreads', 'resource', 'partition', 'on_poweroff', 'on_reboot'],
  ...['on_crash', 'os', 'type', 'boot', 'loader', 'nvram', 'kernel', 'initrd', 'cmdline', 'dtb'],
  ...['bios', 'firmware', 'feature', 'devices', 'emulator', 'disk', 'driver', 'source', 'target'],
  ...['serial', 'backingStore', 'format', 'alias', 'address', 'readonly', 'shareable', 'wwn'],
  ...['vendor', 'product', 'blockio', 'geometry', 'controller', 'master', 'model', 'interface'],
  ...['mac', 'link', 'mtu', 'rom', 'host', 'guest', 'parallel', 'console', 'channel', 'protocol'],
  ...['log', 'input', 'graphics', 'listen', 'image', 'jpeg', 'zlib', 'playback', 'streaming'],
  ...['clipboard', 'mouse', 'filetransfer', 'video', 'acceleration', 'sound', 'codec', 'audio'],
  ...['output', 'memballoon', 'rng', 'backend', 'rate', 'watchdog', 'panic', 'hub', 'iommu'],
  ...['seclabel', 'label', 'imagelabel', 'vsock', 'cid'],
];

/** Kinds of devices by the word in their `type`: others reach what nobody has allowed. */
const TYPES: Readonly<Record<string, readonly string[]>> = {
  domain: ['kvm', 'qemu'],
  disk: ['file', 'block'],
  backingStore: ['file', 'block'],
  interface: ['network', 'bridge'],
  serial: ['pty', 'file', 'unix', 'null', 'spicevmc'],
  parallel: ['pty', 'file', 'unix', 'null'],
  console: ['pty', 'file', 'unix', 'null'],
  channel: ['pty', 'file', 'unix', 'null', 'spicevmc'],
  input: ['mouse', 'tablet', 'keyboard'],
  graphics: ['vnc', 'spice'],
  listen: ['address', 'none'],
  audio: ['none', 'spice'],
  seclabel: ['dynamic'],
};

/** Attributes that name a file, by the element in which they do; they are absolute paths. */
const FILES: Readonly<Record<string, readonly string[]>> = {
  source: ['file', 'dev', 'dir', 'path'],
  log: ['file'],
  rom: ['file'],
};

/**
 * Whether a guest with this XML, which a peer has sent, may be here: every element is one that is known
 * not to reach beyond the guest, or to reach only what the operator has allowed.
 * @throws GodwitError definition-invalid, naming what is not allowed
 */
export function requireAllowed(domain: Element, allowed: Allowed): void {
  if (domain.name !== 'domain') throw refusal(`<${domain.name}> is no domain`);
  inspect(domain, undefined, allowed);
}

function inspect(element: Element, parent: Element | undefined, allowed: Allowed): void {
  const { name, attributes, children, text } = element;
  if (OPAQUE.includes(name)) return;
  const isSetting = SETTINGS.includes(name);
  if (!isSetting && !ELEMENTS.includes(name)) throw refusal(`<${name}> is not allowed here`);
  requireType(element);
  if (parent?.name === 'interface' && name === 'source') requireNetwork(element, allowed);
  else for (const [key, value] of attributes) requirePath(element, parent, key, value, allowed);
  requireText(name, text, allowed);
  for (const one of children)
    if (isSetting) inspectSetting(one, allowed);
    else inspect(one, element, allowed);
}

/** Whatever it is called, it names no file. */
function inspectSetting({ name, attributes, children, text }: Element, allowed: Allowed): void {
  if (name.includes(':')) throw refusal(`<${name}> is not allowed here`);
  if (text.includes('/')) requireIn(text, name, allowed);
  for (const [key, value] of attributes)
    if (key === 'file' || value.includes('/')) requireIn(value, name, allowed);
  for (const one of children) inspectSetting(one, allowed);
}

function requireType({ name, attributes }: Element): void {
  const types = Object.hasOwn(TYPES, name) ? TYPES[name] : undefined;
  const type = attributes.get('type');
  if (types === undefined || type === undefined || types.includes(type)) return;
  // A disk's <serial> is a number, and has no type.
  throw refusal(`<${name} type='${type}'> is not allowed here; ${types.join(', ')} are`);
}

function requireNetwork({ attributes }: Element, { networks }: Allowed): void {
  for (const [key, value] of attributes) {
    if (key === 'portid' || key === 'portgroup') continue;
    const isName = key === 'network' || key === 'bridge';
    if (!isName || !networks.includes(value))
      throw refusal(`${key} "${value}" is not allowed here (--libvirt-allow-network)`);
  }
}

function requirePath(
  { name }: Element,
  parent: Element | undefined,
  key: string,
  value: string,
  allowed: Allowed,
): void {
  const isFile = Object.hasOwn(FILES, name) && FILES[name]!.includes(key);
  // Elsewhere a path is none unless it looks like one.
  if (isFile || value.includes('/')) requireIn(value, parent?.name ?? name, allowed);
}

/** Text that names a file of the host. */
const FILE_TEXTS = ['emulator', 'loader', 'nvram', 'kernel', 'initrd', 'dtb', 'bios', 'backend'];
/** Text that is for people, or for the guest; cgroups of a partition are made by libvirt. */
const WORDS = [
  'name',
  'title',
  'description',
  'cmdline',
  'serial',
  'vendor',
  'product',
  'partition',
];

function requireText(name: string, text: string, allowed: Allowed): void {
  if (text === '') return;
  if (name === 'emulator' && EMULATOR.test(text)) return;
  if (name === 'backend' && RANDOM.includes(text)) return;
  if (WORDS.includes(name)) return;
  if (FILE_TEXTS.includes(name) || text.includes('/')) requireIn(text, name, allowed);
}

function requireIn(file: string, what: string, { paths }: Allowed): void {
  const isPlain = path.isAbsolute(file) && path.normalize(file) === file;
  const isIn = (allowed: string) =>
    file === allowed || file.startsWith(`${allowed.replace(/\/$/, '')}/`);
  if (isPlain && paths.some(isIn)) return;
  throw refusal(`<${what}> has "${file}", which is not allowed here (--libvirt-allow-path)`);
}

/** Bytes that the guest may have at most, as its XML says. @throws GodwitError definition-invalid */
export function requireMemory(domain: Element, bytes: number): void {
  const memory = child(domain, 'memory');
  const unit = memory?.attributes.get('unit') ?? 'KiB';
  const given = Number(memory?.text) * (unit === 'KiB' ? 1024 : Number.NaN);
  if (given <= bytes) return;
  const text = `its XML has ${Number.isNaN(given) ? 'memory in no known unit' : formatSize(given)} of memory, and ${formatSize(bytes)} were offered`;
  throw refusal(text);
}

function refusal(why: string): GodwitError {
  return new GodwitError('definition-invalid', `the guest cannot be had here: ${why}`);
}
