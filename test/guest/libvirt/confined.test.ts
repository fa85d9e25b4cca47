import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { confinement, label, seesOthers } from '../../../lib/guest/libvirt/confined.ts';

const proc = (options: string) =>
  `21 1 8:1 / / rw - ext4 /dev/sda1 rw\n22 21 0:21 / /proc rw,nosuid - proc proc ${options}\n`;
const status = (capabilities: string) => `Name:\tnode\nCapEff:\t${capabilities}\n`;

test('the processes of others are hidden by hidepid, but not from CAP_SYS_PTRACE', () => {
  expect(seesOthers(proc('rw'), status('0000000000000000'))).toBe(true);
  for (const hidden of ['hidepid=2', 'hidepid=invisible', 'gid=5,hidepid=ptraceable'])
    expect(seesOthers(proc(`rw,${hidden}`), status('0000000000000000')), hidden).toBe(false);
  expect(seesOthers(proc('rw,hidepid=invisible'), status('0000000000080000'))).toBe(true);
  expect(seesOthers(proc('rw,hidepid=0'), status('0000000000000000'))).toBe(true);
  expect(seesOthers(proc('rw,hidepid=off'), status('0000000000000000'))).toBe(true);
});

test('a directory that cannot be used is said before a guest is on its way', async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-confined-'));
  const found = (await confinement(dir)).find(({ about }) => about === 'sockets');
  expect(found).toMatchObject({ verdict: 'ok' });
  fs.rmSync(dir, { recursive: true });
  const missing = (await confinement(dir)).find(({ about }) => about === 'sockets');
  expect(missing).toMatchObject({ verdict: 'no', code: 'hypervisor-failed' });
  expect(missing!.text).toContain('ENOENT');
});

test('a label that may be in the way is not promised to be none', () => {
  expect(label('1\n').verdict).toBe('unknown');
  expect(label('0\n').verdict).toBe('ok');
});
