import { describe, expect, it } from 'vitest';
import { requireAllowed } from '../../../lib/guest/xen/allowed.ts';
import { readConfig } from '../../../lib/guest/xen/config.ts';
import { configOf } from '../../stream/xen/builder.ts';

const ALLOWED = { paths: ['/srv/images'], bridges: ['xenbr0'] };

/** The builder's configuration with more in it. */
function configWith(more: Record<string, unknown>, build: Record<string, unknown> = {}) {
  const config = JSON.parse(configOf('g1', 'hvm'));
  return readConfig(JSON.stringify({ ...config, ...more, b_info: { ...config.b_info, ...build } }));
}

describe('the configuration of a domain that arrives', () => {
  it('may have what is allowed, and what reaches nothing', () => {
    const config = configWith(
      {
        disks: [{ pdev_path: '/srv/images/web1.img', vdev: 'xvda', format: 'raw', readwrite: 1 }],
        nics: [{ devid: 0, mac: '00:16:3e:00:00:01', bridge: 'xenbr0', script: 'vif-bridge' }],
        vfbs: [{ devid: 0, vnc: { enable: 'True', listen: '127.0.0.1' } }],
        pcidevs: [],
        on_reboot: 'restart',
      },
      { cmdline: 'root=/dev/xvda1', kernel: '/srv/images/vmlinuz', bootloader: null },
    );
    expect(() => requireAllowed(config, ALLOWED)).not.toThrow();
  });

  it.each<[what: string, more: Record<string, unknown>, build?: Record<string, unknown>]>([
    ['a disk elsewhere', { disks: [{ pdev_path: '/etc/shadow' }] }],
    ['a way out of what is allowed', { disks: [{ pdev_path: '/srv/images/../../etc/shadow' }] }],
    ['a directory whose name only begins so', { disks: [{ pdev_path: '/srv/images2/a' }] }],
    ['a relative path', { disks: [{ pdev_path: 'a/b' }] }],
    ['another bridge', { nics: [{ bridge: 'xenbr1' }] }],
    ['a script of its own', { nics: [{ bridge: 'xenbr0', script: '/tmp/up' }] }],
    ['a driver domain', { disks: [{ pdev_path: '/srv/images/a', backend_domname: 'dom' }] }],
    ['a device of the host', { pcidevs: [{ dev: 31 }] }],
    ['a part that nobody knows', { later: { a: 1 } }],
    ['another device model', {}, { device_model: '/tmp/qemu' }],
    ['options of its device model', {}, { extra: ['-chardev', 'file,id=a'] }],
    ['the same by type', {}, { 'type.hvm': { extra_hvm: ['-monitor'] } }],
    ['a bootloader', {}, { bootloader: 'pygrub' }],
    ['another kernel', {}, { kernel: '/boot/vmlinuz' }],
  ])('may not have %s', (_what, more, build) => {
    expect(() => requireAllowed(configWith(more, build), ALLOWED)).toThrow(
      expect.objectContaining({ code: 'definition-invalid' }),
    );
  });
});

describe('a configuration', () => {
  it('tells name, UUID, type and memory', () => {
    expect(readConfig(configOf('g1', 'pvh', 98304))).toMatchObject({
      ...{ name: 'g1', type: 'pvh', memoryBytes: 96 << 20 },
      uuid: '2f7a1c5e-5a5a-4d11-9c3b-6b8c57d0a7f1',
    });
  });

  it.each([
    ['no JSON', 'name = "g1"'],
    ['no object', '[]'],
    ['no UUID', JSON.stringify({ c_info: { name: 'g1', type: 'pv' }, b_info: { max_memkb: 1 } })],
    ['a name that is a path', configOf('../g1')],
    ['no memory', configOf('g1', 'pv', 0)],
  ])('is refused that is or has %s', (_what, text) => {
    expect(() => readConfig(text)).toThrow(expect.objectContaining({ code: 'bad-message' }));
  });
});
