import { expect, test } from 'vitest';
import { CarefulPass } from '../../../lib/guest/qemu/careful-pass.ts';
import { CRAWL } from '../../../lib/guest/qemu/migration.ts';
import { until } from '../../e2e/hosts.ts';

/** QEMU that is asked how much is left: `left`, one after the other, and the last for good. */
function migration(...left: (number | undefined)[]) {
  const paces: number[] = [];
  return {
    paces,
    pendingPages: async () => (left.length > 1 ? left.shift() : left[0]),
    limitBandwidth: async (bytesPerSecond: number) => void paces.push(bytesPerSecond),
  };
}

test('a pass is as fast as it can be until its last 64 MiB, and ever slower to its end', async () => {
  const qemu = migration(undefined, 1e6, 20_000, 16_000, 8000, 100, 10, 3);
  const pass = new CarefulPass(qemu);
  await pass.begin();
  expect([qemu.paces, pass.slow]).toEqual([[0], false]);
  await until(() => qemu.paces.at(-1) === CRAWL, 'it crawls');
  pass.stop();
  expect(pass.slow).toBe(true);
  expect(qemu.paces).toEqual([0, 16_000 * 8192, 8000 * 8192, 100 * 8192, CRAWL]);
});

test('one with little left begins slowly; once it is stopped nothing is said to QEMU any more', async () => {
  const qemu = migration(5, 4, 30_000);
  const pass = new CarefulPass(qemu);
  await pass.begin();
  pass.stop();
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(qemu.paces).toEqual([CRAWL]);
});
