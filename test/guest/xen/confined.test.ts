import { expect, test } from 'vitest';
import { lackingOf } from '../../../lib/guest/xen/confined.ts';

const status = (bounds: string) => `Name:\tnode\nCapEff:\t${bounds}\nCapBnd:\t${bounds}\n`;

test('a unit whose bounding set is empty has nothing that xl needs, and one without a bound has it', () => {
  expect(lackingOf(status('0000000000000000'))).toEqual(['CAP_NET_ADMIN', 'CAP_SYS_ADMIN']);
  expect(lackingOf(status('000001ffffffffff'))).toEqual([]);
  expect(lackingOf(status('0000000000201000'))).toEqual([]);
  expect(lackingOf(status('0000000000200000'))).toEqual(['CAP_NET_ADMIN']);
  expect(lackingOf('')).toHaveLength(2);
});
