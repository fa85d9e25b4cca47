import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { identify } from '../../lib/guest/process-identity.ts';
import { loadDefinition } from '../../lib/guest/qemu/definition.ts';
import { QmpClient } from '../../lib/guest/qemu/qmp.ts';
import { answerPacemaker } from '../../lib/resource/answer.ts';
import { OCF } from '../../lib/resource/call.ts';
import { qemuProgram, whyNoQemu } from './guest/installed.ts';

describe.skipIf(whyNoQemu())(
  'a guest of QEMU by its definition, as a resource of a cluster',
  () => {
    let dir: string;
    beforeEach(() => {
      dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-ocf-'));
      const qmp = `${dir}/vm1.qmp`;
      const machine = ['-machine', 'q35', '-m', '16', '-nodefaults', '-display', 'none'];
      const monitor = ['-qmp', `unix:${qmp},server=on,wait=off`];
      const command = [qemuProgram('10.0'), ...machine, ...monitor];
      const options = { definitions: dir, 'state-dir': dir, 'host-dir': `${dir}/host` };
      fs.writeFileSync(`${dir}/vm1.json`, JSON.stringify({ hypervisor: 'qemu', qmp, command }));
      fs.mkdirSync(`${dir}/etc`);
      fs.writeFileSync(`${dir}/etc/agent.json`, JSON.stringify(options));
    });
    afterEach(async () => {
      await answer('stop');
      fs.rmSync(dir, { recursive: true });
    });

    function answer(action: string): Promise<number> {
      return answerPacemaker(action, {
        OCF_RESOURCE_INSTANCE: 'vm1',
        OCF_RESKEY_kind: 'qemu',
        OCF_RESKEY_send_config: `${dir}/etc/agent.json`,
        OCF_RESKEY_recv_config: `${dir}/etc/agent.json`,
        OCF_RESKEY_CRM_meta_timeout: '10000',
      });
    }

    test('is started, seen and stopped, as often as it is told', async () => {
      expect(await answer('monitor')).toBe(OCF.notRunning);
      for (let times = 0; times < 2; times++) expect(await answer('start')).toBe(OCF.success);
      expect(await answer('monitor')).toBe(OCF.success);
      const qmp = await QmpClient.connect(loadDefinition(dir, 'vm1', []).qmp);
      const { pid } = await qmp.process();
      qmp.close();
      for (let times = 0; times < 2; times++) expect(await answer('stop')).toBe(OCF.success);
      expect(identify(pid)).toBeUndefined();
      expect(await answer('monitor')).toBe(OCF.notRunning);
    });
  },
);
