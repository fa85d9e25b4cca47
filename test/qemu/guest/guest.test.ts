import assert from 'node:assert/strict';
import fs from 'node:fs';
import { afterEach, describe, test, vi } from 'vitest';
import { LONG } from '../../long.ts';
import { type QemuVersion, titled, whyNoQemu } from './installed.ts';
import { LinuxGuest, type LinuxGuestOptions, TEST_BOUND_MS } from './linux-guest.ts';
import { CHECKED_FILE, CHECKED_PAGE, compareRamFiles, findPages, spoilPage } from './ram-files.ts';
import { fullCheck, longestGap, verdict } from './witness.ts';
import { idle } from './workload.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS });

const VERSIONS: readonly [QemuVersion, object][] = [
  ['10.0', {}],
  ['7.2', LONG],
];

describe.skipIf(whyNoQemu())(titled('the Linux test guest'), () => {
  let guest: LinuxGuest | undefined;

  async function boot(options: LinuxGuestOptions): Promise<LinuxGuest> {
    guest = await LinuxGuest.start(options);
    await guest.booted();
    return guest;
  }

  afterEach(async () => {
    await guest?.end();
    guest = undefined;
  });

  /** The pages written so far, from a report that comes now. */
  async function written({ site }: LinuxGuest): Promise<number> {
    const { text } = await site.console.line(/^checked 0/);
    return Number(/(\d+) written/.exec(text)?.[1]);
  }

  describe.each(VERSIONS)('on QEMU %s', (qemu, more) => {
    test('beats, checks memory and file, dirties pages', more, async () => {
      const { site } = await boot({ qemu });
      const first = await written(guest!);
      assert((await written(guest!)) > first);
      await fullCheck(site);
      const { clean, bad, beats } = verdict(site.console);
      assert(clean, bad.join('\n'));
      const gap = longestGap(beats);
      assert(gap.hostMs > 0 && gap.guestMs > 0);
      assert.equal(gap.to.number, gap.from.number + 1);
    });

    test('finds one wrong byte in an idle memory and file', more, async () => {
      const { site, qmp } = await boot({ qemu, ram: 'files', workload: idle });
      assert.equal(await written(guest!), 0);
      await qmp.execute('stop');
      const ramFile = site.host.ramFiles[0]!;
      const pages = findPages(ramFile, CHECKED_PAGE);
      assert(pages.length >= idle.checkedMiB * 256);
      const wrong = [pages[1000]!, findPages(ramFile, CHECKED_FILE)[0]!].sort((a, b) => a - b);
      const before = `${ramFile}.before`;
      fs.copyFileSync(ramFile, before);
      for (const pfn of wrong) spoilPage(ramFile, pfn);
      assert.deepEqual(compareRamFiles(before, ramFile), wrong);
      const heard = [/^BAD page .* 1 of 512 words are wrong$/, /^BAD md5/].map((line) =>
        site.console.line(line),
      );
      await qmp.execute('cont');
      await Promise.all(heard);
      assert.equal(verdict(site.console).clean, false);
    });

    test('runs in a microvm', more, async () => {
      const { site } = await boot({ qemu, machine: 'microvm', devices: ['disk', 'net'] });
      assert.deepEqual(verdict(site.console).bad, []);
    });
  });

  test('uses two NUMA nodes, two processors, a disk and a network', async () => {
    const devices = ['disk', 'net', 'e1000e', 'vga'] as const;
    const { site } = await boot({ cpus: 2, nodes: 2, ram: 'files', devices });
    for (const ramFile of site.host.ramFiles)
      assert(findPages(ramFile, CHECKED_PAGE).length > 0, `checked pages in ${ramFile}`);
    const { bad, diskChecks, networkAnswers } = verdict(site.console);
    assert.deepEqual(bad, []);
    assert(diskChecks > 0 && networkAnswers > 0);
  });
});
