import { expect, test } from 'vitest';
import { didYouMean } from '../lib/nearest.ts';

test.each([
  ['migarte', ['migrate', 'list'], 'migrate'],
  ['vm', ['vm1', 'web'], 'vm1'],
  ['VM2', ['vm1', 'vm2'], 'vm2'],
  ['--max-suspend-tme', ['--max-iters', '--max-suspend-time'], '--max-suspend-time'],
  ['lst', ['list', 'set'], 'list'],
  ['wholly-other', ['list', 'set'], undefined],
  ['x', [], undefined],
])('%s of %j', (word, names, meant) => {
  expect(didYouMean(word, names)).toBe(meant === undefined ? '' : `; did you mean "${meant}"?`);
});
