import fs from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { identify } from '../../lib/guest/process-identity.ts';
import { answerPacemaker } from '../../lib/resource/answer.ts';
import { OCF } from '../../lib/resource/call.ts';
import { until } from '../e2e/hosts.ts';
import { qemuProgram } from '../qemu/guest/installed.ts';
import { TEST_BOUND_MS } from '../qemu/guest/linux-guest.ts';
import { LibvirtHost, titled, whyNoLibvirt } from './libvirt-host.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

/** It has nothing to boot, and does not hear that it is to shut down. */
const DOMAIN = (emulator: string) => `<domain type='qemu'>
  <name>vm1</name>
  <uuid>6f6f6f6f-1111-4222-8333-444444444444</uuid>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc-q35-10.0'>hvm</type></os>
  <devices><emulator>${emulator}</emulator><memballoon model='none'/></devices>
</domain>
`;

describe.skipIf(whyNoLibvirt())(titled('a domain as a resource of a cluster'), () => {
  let host: LibvirtHost;
  afterEach(() => host.end());

  function answer(action: string, more: Readonly<Record<string, string>> = {}): Promise<number> {
    const config = path.join(host.dir, 'send.json');
    const places = { 'libvirt-socket': host.socket, 'host-dir': path.join(host.dir, 'records') };
    fs.writeFileSync(config, JSON.stringify(places));
    return answerPacemaker(action, {
      OCF_RESOURCE_INSTANCE: 'vm1',
      OCF_RESKEY_send_config: config,
      OCF_RESKEY_recv_config: config,
      OCF_RESKEY_CRM_meta_timeout: '30000',
      ...more,
    });
  }

  test('is started, seen and stopped, also while libvirtd is down', async () => {
    host = await LibvirtHost.start('hosta', '11.3');
    const xml = path.join(host.dir, 'vm1.xml');
    fs.writeFileSync(xml, DOMAIN(qemuProgram('10.0')));
    expect(await answer('monitor')).toBe(OCF.notRunning);
    expect(await answer('stop')).toBe(OCF.success);
    expect(await answer('start')).toBe(OCF.failed); // libvirt does not know it
    for (let times = 0; times < 2; times++)
      expect(await answer('start', { OCF_RESKEY_xml: xml })).toBe(OCF.success);
    expect(await answer('monitor')).toBe(OCF.success);
    await host.virsh('suspend', 'vm1'); // by somebody
    expect(await answer('monitor')).toBe(OCF.success);
    await host.virsh('resume', 'vm1');
    const qemu = host.qemu()!;

    await host.killLibvirtd();
    expect(await answer('monitor')).toBe(OCF.success);
    await host.startLibvirtd();
    expect(await answer('stop', { OCF_RESKEY_CRM_meta_timeout: '8000' })).toBe(OCF.success);
    expect(identify(qemu)).toBeUndefined();
    expect(await answer('monitor')).toBe(OCF.notRunning);

    await host.virsh('define', xml);
    expect(await answer('monitor')).toBe(OCF.notRunning);
    expect(await answer('start')).toBe(OCF.success);
    expect(await host.state()).toBe('running');
    await host.killLibvirtd();
    expect(await answer('stop')).toBe(OCF.success); // its process is all there is
    await host.startLibvirtd();
    // It serves before it has looked for the processes of its domains.
    await until(async () => (await host.state()) === undefined, 'libvirtd sees that it is gone');
  });
});
