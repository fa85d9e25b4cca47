import fc from 'fast-check';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { GodwitError } from '../../../lib/errors.ts';
import type { Profiling } from '../../../lib/guest/profile.ts';
import type { GuestDefinition } from '../../../lib/guest/qemu/definition.ts';
import { profileQemu } from '../../../lib/guest/qemu/profile.ts';
import { connectQemuSource } from '../../../lib/guest/qemu/source.ts';
import { LONGEST_WINDOW_MS, windowPlan } from '../../../lib/guest/windows.ts';
import { PAGE_SIZE } from '../../../lib/memory/guest-layout.ts';
import { crewOfTest } from '../../crew/crew-of-test.ts';
import { until } from '../../e2e/hosts.ts';
import { type QemuVersion, titled, whyNoQemu } from '../../qemu/guest/installed.ts';
import { LinuxGuest, TEST_BOUND_MS } from '../../qemu/guest/linux-guest.ts';
import { small } from '../../qemu/migration.ts';

const crew = crewOfTest();

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

test('each doubling of the shortest window is measured, the short ones again and again', () => {
  const lengths = fc.record({
    ms: fc.integer({ min: 1000, max: 600_000 }),
    shortest: fc.constantFrom(100, 1000),
  });
  fc.assert(
    fc.property(lengths, ({ ms, shortest }) => {
      const plan = windowPlan(ms, shortest);
      const sum = plan.reduce((all, length) => all + length, 0);
      expect(sum).toBeLessThanOrEqual(ms);
      expect(ms - sum).toBeLessThan(shortest);
      const once = [...new Set(plan)];
      expect(plan.slice(0, once.length)).toEqual(once);
      expect(once).toEqual(once.map((_, i) => shortest * 2 ** i));
      expect(once.at(-1)).toBeLessThanOrEqual(LONGEST_WINDOW_MS);
      const times = once.map((length) => plan.filter((one) => one === length).length);
      expect(times).toEqual([...times].sort((a, b) => b - a));
    }),
    { numRuns: 50 },
  );
});

const versions: readonly QemuVersion[] = ['10.0', '7.2'];

describe.skipIf(whyNoQemu())(titled('a QEMU guest'), () => {
  let linux: LinuxGuest | undefined;
  afterEach(async () => {
    await linux?.end();
    linux = undefined;
  });

  const boot = async (qemu: QemuVersion): Promise<GuestDefinition> => {
    linux = await LinuxGuest.start({ ...small, qemu, ram: 'files' });
    await linux.booted();
    const { monitor, ramFiles } = linux.site.host;
    const ram = ramFiles.map((file, i) => ({ block: `ram-node${i}`, file }));
    return {
      ...{ name: 'vm1', file: '', hypervisor: 'qemu' },
      ...{ qmp: monitor, ram, hooks: {}, limits: {} },
    };
  };
  const profiling = (ms: number, over: Partial<Profiling> = {}): Profiling => ({
    ...{ ms, signal: new AbortController().signal, onProgress: () => {} },
    ...over,
  });
  const measuring = async () => {
    const { status } = await linux!.qmp.execute<{ status: string }>('query-dirty-rate');
    return status === 'measuring';
  };

  test.each(versions)('of QEMU %s is watched, and runs on', async (version) => {
    const definition = await boot(version);
    const profile = await profileQemu(definition, profiling(4000));
    const lengths = version === '7.2' ? [1000, 2000] : [100, 200, 400, 800, 1600];
    expect(profile.workingSet).toHaveLength(lengths.length);
    for (const [i, { windowMs, pages, high }] of profile.workingSet.entries()) {
      expect(windowMs).toBeGreaterThanOrEqual(lengths[i]!);
      expect(pages).toBeLessThanOrEqual(high);
      expect(high).toBeLessThanOrEqual(profile.totalPages);
    }
    expect(profile.method).toBe('page-sampling');
    const { 'base-memory': bytes } = await linux!.qmp.execute<{ 'base-memory': number }>(
      'query-memory-size-summary',
    );
    expect(profile.totalPages).toBe(bytes / PAGE_SIZE);
    expect(profile.dirtyRate).toBeGreaterThan(0);
    expect(profile.zeroShare).toBeGreaterThan(0);
    expect(profile.zeroShare).toBeLessThan(1);
    expect(profile.compressedShare).toBeLessThan(1);
    expect(await linux!.qmp.execute('query-status')).toMatchObject({ status: 'running' });
    expect(await measuring()).toBe(false);
    const unread = await profileQemu({ ...definition, ram: [] }, profiling(1000));
    expect(unread).toMatchObject({ zeroShare: undefined, compressedShare: undefined });
  });

  test('whose profile is ended has no measurement left when that is said', async () => {
    const definition = await boot('7.2');
    const abort = new AbortController();
    const profile = profileQemu(definition, profiling(60_000, { signal: abort.signal }));
    await until(measuring, 'QEMU measures');
    abort.abort(new GodwitError('cancelled', 'enough'));
    await expect(profile).rejects.toMatchObject({ code: 'cancelled' });
    expect(await measuring()).toBe(false);
  });

  test('that is stopped meanwhile, measured or moved by somebody else has none', async () => {
    const definition = await boot('10.0');
    const { qmp } = linux!;
    await qmp.execute('stop');
    const refused = { code: 'guest-not-running' };
    await expect(profileQemu(definition, profiling(1000))).rejects.toMatchObject(refused);
    await qmp.execute('cont');

    const profile = profileQemu(definition, profiling(60_000));
    await until(measuring, 'QEMU measures');
    await qmp.execute('stop');
    await qmp.execute('cont');
    await expect(profile).rejects.toMatchObject({ code: 'guest-stopped' });

    await qmp.execute('calc-dirty-rate', { 'calc-time': 5 });
    const busy = { code: 'guest-busy' };
    await expect(profileQemu(definition, profiling(1000))).rejects.toMatchObject(busy);
    // A migration waits for what an agent may have left behind when it died.
    const guest = await connectQemuSource(definition, crew);
    expect(await measuring()).toBe(false);
    guest.close();
  });
});
