import { afterEach, beforeEach, expect, test } from 'vitest';
import { handBack } from '../../lib/cluster/aside.ts';
import { fencesOf } from '../../lib/cluster/fence-history.ts';
import { FakeTools } from './fake-tools.ts';

let tools: FakeTools;
beforeEach(() => {
  tools = new FakeTools();
});
afterEach(() => tools.end());

const at = '2026-11-25 00:54:57Z';
const atMs = Date.parse('2026-11-25T00:54:57Z');

test('confirmed fences are taken from the history, and nothing else is', async () => {
  tools.history(
    'n2',
    ...[{ completed: at }, { completed: at, action: 'reboot', delegate: 'a human' }],
    ...[
      { completed: at, status: 'failed' },
      { completed: at, status: 'pending' },
    ],
    ...[
      { completed: at, action: 'on' },
      { completed: at, action: 'monitor' },
    ],
    ...[{ completed: at, target: 'n1' }, { completed: '2026-11-25 00:54:57' }, { completed: '' }],
  );
  expect(await fencesOf('n2')).toEqual([
    { node: 'n2', atMs, by: 'n9' },
    { node: 'n2', atMs, by: 'a human' },
  ]);
  tools.history('n2');
  expect(await fencesOf('n2')).toEqual([]);
});

test('a cluster that does not answer, or not as it should, is not believed', async () => {
  await expect(fencesOf('n7')).rejects.toMatchObject({ code: 'not-seen' }); // no such file
  tools.answer('n2', '<!DOCTYPE x><fence_event/>');
  await expect(fencesOf('n2')).rejects.toMatchObject({ code: 'bad-message' });
});

test('only what the migration itself has set aside is handed back, and looked at first', async () => {
  const mine = { maintenance: 'true', 'godwit-migration': '4f2a' };
  tools.cib([
    { id: 'admins', guest: 'vm1', meta: { maintenance: 'true' } },
    { id: 'other', guest: 'vm2', meta: mine },
    { id: 'older', guest: 'vm1', meta: { ...mine, 'godwit-migration': '1111' } },
  ]);
  expect(await handBack('vm1', '4f2a')).toBeUndefined();
  expect(tools.calls).toEqual([]);
  tools.cib([{ id: 'web1', guest: 'vm1', meta: mine }]);
  expect(await handBack('vm1', '4f2a')).toBe('web1');
  expect(tools.calls).toEqual([
    '--refresh -r web1',
    '-r web1 --meta -d maintenance',
    '-r web1 --meta -d godwit-migration',
  ]);
});
