import fs from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { GuestRecord } from '../../lib/ownership/guest-record.ts';
import { type Side, until } from '../e2e/hosts.ts';
import { qemuProgram } from '../qemu/guest/installed.ts';
import { TEST_BOUND_MS } from '../qemu/guest/linux-guest.ts';
import { verdict } from '../qemu/guest/witness.ts';
import { titled, whyNoLibvirt } from './libvirt-host.ts';
import { LibvirtMigration } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

/** QEMU 10.0 emulates it, 7.2 does not. */
const RDSEED = `<cpu mode='custom' match='exact' check='partial'>
  <model fallback='forbid'>qemu64</model><feature policy='require' name='rdseed'/></cpu>`;
const GENEROUS = ['--max-suspend-time', '20s'];

describe.skipIf(whyNoLibvirt())(titled('a domain that is to be another one there'), () => {
  let migration: LibvirtMigration;
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(migration.log);
    await migration.end();
  });

  function written(name: string, xml: string): string {
    const file = path.join(migration.hosts.dir, name);
    fs.writeFileSync(file, xml);
    return file;
  }

  const entitled = (xml: string, title: string) =>
    xml.replace('</uuid>', `</uuid>\n<title>${title}</title>`);

  function recordOf(side: Side, name: string): GuestRecord {
    const { hostDir } = migration.hosts.at(side).places;
    return JSON.parse(fs.readFileSync(path.join(hostDir, `${name}.json`), 'utf8'));
  }

  /** Names of all domains that libvirt knows there. */
  async function domains(side: Side, ...kind: string[]): Promise<string[]> {
    const listed = await migration.libvirt[side].virsh('list', '--name', ...kind);
    return listed.split('\n').filter((name) => name !== '');
  }

  test('its XML is refused where it may not be, changes what the guest sees, or has no CPU for it', async () => {
    const newer = { machine: 'pc-q35-7.2', cpu: RDSEED };
    const recv = ['--libvirt-allow-path', path.dirname(qemuProgram('7.2'))];
    migration = await LibvirtMigration.prepare({ shape: newer, agents: { recv } });
    const { source, destination } = migration.hosts;
    const older = [qemuProgram('10.0'), qemuProgram('7.2')] as const;
    for (const [[from, to], code, words] of [
      [["'/run/console'", "'/run/other'"], 'definition-invalid', '/run/other'],
      [['<vcpu>1<', '<vcpu>2<'], 'hypervisor-failed', 'vCPU max 2 does not match source 1'],
      [['<name>vm1<', '<name>web2<'], 'hypervisor-failed', "'web2' does not match source 'vm1'"],
      [older, 'hypervisor-failed', 'missing features: rdseed'],
    ] as const) {
      const text = migration.xml.replace(from, to);
      expect(text).not.toBe(migration.xml);
      const options = ['--dest-xml', written('other.xml', text), '--json'];
      const refused = await source.run(['migrate', 'vm1', destination.target, ...options]);
      expect(refused).toMatchObject({ code: 1 });
      expect(`${refused.stdout}${refused.stderr}`).toContain(code);
      expect(`${refused.stdout}${refused.stderr}`).toContain(words);
    }
    const check = async (...options: string[]) =>
      (await source.run(['check', 'vm1', destination.target, ...options])).stdout;
    const whole = await check();
    expect(whole).toMatch(/^ok +destination +domain: its XML has nothing/m);
    expect(whole).toMatch(/^ok +destination +machine: .*qemu-system-x86_64 has pc-q35-7\.2$/m);
    expect(whole).toMatch(/^ok +destination +cpu: this host has all of qemu64/m);
    const missing = await check('--dest-xml', path.join(migration.hosts.dir, 'other.xml'));
    expect(missing).toMatch(/^no +destination +cpu: .*required features: rdseed/m);
    await migration.mustHaveStayed();
  });

  test('it moves with its definition, whoever dies meanwhile, and comes back as its host wants it', async () => {
    const faults = {
      send: 'kill@source.before.undefine-guest',
      recv: 'kill@destination.before.define-guest',
    };
    migration = await LibvirtMigration.prepare({ agents: { faults } });
    const { hosts, libvirt, consoles, xml } = migration;
    await libvirt.source.virsh('define', written('next.xml', entitled(xml, 'next time')));
    const renamed = ['--dest-name', 'web2', '--persistent', '--undefine-source'];
    const id = await hosts.begin(...GENEROUS, ...renamed);
    await until(() => !hosts.recv.alive, 'the destination was killed', TEST_BOUND_MS);
    expect(await libvirt.destination.state('web2')).toBe('running');
    expect(await domains('destination', '--all', '--persistent')).toEqual([]);
    expect(await domains('source', '--all')).toEqual(['vm1']); // nobody keeps it if this one does not
    await hosts.startRecv();
    await until(() => !hosts.send.alive, 'the source was killed', TEST_BOUND_MS);
    expect(await domains('destination', '--all', '--persistent')).toEqual(['web2']);
    expect(await domains('source', '--all')).toEqual(['vm1']);
    await hosts.startSend();
    await migration.mustHaveEnded();
    expect(await domains('source', '--all')).toEqual([]);
    const kept = await libvirt.destination.virsh('dumpxml', '--inactive', 'web2');
    expect(kept).toContain('<title>next time</title>');
    expect(kept).toContain('<name>web2</name>');
    expect(await libvirt.destination.virsh('dumpxml', 'web2')).not.toContain('<title>');
    await consoles.destination.line(/^beat/);
    expect(verdict(consoles.source, consoles.destination).bad).toEqual([]);
    expect(recordOf('destination', 'web2')).toMatchObject({ epoch: 1, rest: true });
    expect(await hosts.source.list('send')).toMatchObject([{ id, phase: 'ended' }]);

    await Promise.all([hosts.send.end(), hosts.recv.end()]); // each host has a state of its own
    const state = (name: string) => ['--insecure', '--state-dir', path.join(hosts.dir, name)];
    await hosts.destination.startSend(undefined, state('back-send'));
    await hosts.source.startRecv(undefined, [...state('back-recv'), ...migration.allowed]);
    const live = await libvirt.destination.virsh('dumpxml', '--migratable', 'web2');
    const file = written('back.xml', entitled(live, 'as it comes back'));
    const back = [...GENEROUS, '--dest-name', 'web3', '--dest-xml', file];
    const from = consoles.source.lines.length;
    expect(await hosts.destination.migrate(hosts.source, back, 'web2')).toMatchObject({ exit: 0 });
    expect(await libvirt.source.state('web3')).toBe('running');
    await consoles.source.line(/^checked/, { from, count: 2 });
    expect(consoles.source.lines.filter(({ text }) => /BAD/.test(text))).toEqual([]);
    expect(await libvirt.source.virsh('dumpxml', 'web3')).toContain('as it comes back');
    expect(await domains('source', '--all', '--persistent')).toEqual([]);
    expect(await domains('destination', '--all')).toEqual(['web2']); // as it was asked for
    expect(recordOf('source', 'web3')).toMatchObject({
      epoch: 2,
      uuid: recordOf('source', 'vm1').uuid,
    });
  });
});
