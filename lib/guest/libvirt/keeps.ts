import { child, type Element } from '../../xml.ts';

/** Devices that keep nothing of the guest when it is gone; of disks, those that it only reads. */
const FORGETFUL = [
  ...['emulator', 'controller', 'input', 'graphics', 'video', 'memballoon', 'rng', 'interface'],
  ...['serial', 'parallel', 'console', 'channel', 'watchdog', 'panic', 'audio', 'sound', 'hub'],
];

/** Whether nothing on any disk, share or chip is written by a domain with this XML. */
export function keepsNothing(domain: Element): boolean {
  const devices = child(domain, 'devices')?.children ?? [];
  const hasVariables = child(child(domain, 'os'), 'nvram') !== undefined;
  const isPlain = domain.children.every(({ name }) => !name.includes(':'));
  return isPlain && !hasVariables && devices.every(isForgetful);
}

function isForgetful(device: Element): boolean {
  const isRead = device.name === 'disk' && child(device, 'readonly') !== undefined;
  return isRead || FORGETFUL.includes(device.name);
}
