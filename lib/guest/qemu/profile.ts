import fs from 'node:fs';
import { CHUNK_PAGES, PAGE_SIZE, type RegionFile } from '../../memory/guest-layout.ts';
import { type Observation, type Profiling, requireRunning } from '../profile.ts';
import { profileByWindows } from '../windows.ts';
import type { GuestDefinition, RamFile } from './definition.ts';
import { DirtyRate } from './dirty-rate.ts';
import { memoryBytesOf } from './memory-size.ts';
import { requireIdle } from './migration.ts';
import { QmpClient } from './qmp.ts';
import { runStateOf } from './run-state.ts';

/**
 * Watches a running guest by QEMU's own measurements: nothing of them is seen but how many pages changed.
 * Holds the monitor meanwhile.
 * @throws GodwitError as `Guest.profile`
 */
export async function profileQemu(
  definition: GuestDefinition,
  profiling: Profiling,
): Promise<Observation> {
  const { name, ram } = definition;
  const qmp = await QmpClient.connect(definition.qmp);
  let stopped = false;
  qmp.on('STOP', () => {
    stopped = true;
  });
  try {
    const { status } = await qmp.execute<{ status: string }>('query-status');
    requireRunning(name, runStateOf(status));
    await requireIdle(qmp);
    const memoryBytes = await memoryBytesOf(qmp);
    const meter = new DirtyRate(qmp, memoryBytes);
    const watched = { name, memoryBytes, files: regionFilesOf(ram), hasStopped: () => stopped };
    return await profileByWindows(meter, watched, profiling);
  } finally {
    qmp.close();
  }
}

/** As they lie: what cannot be seen has no region. */
function regionFilesOf(ram: readonly RamFile[]): RegionFile[] {
  let firstPfn = 0;
  return ram.flatMap(({ block, file }) => {
    const pages = Math.floor(sizeOf(file) / PAGE_SIZE);
    const region = { name: block, firstPfn, pages };
    firstPfn += Math.ceil(pages / CHUNK_PAGES) * CHUNK_PAGES;
    return pages === 0 ? [] : [{ region, path: file, offset: 0 }];
  });
}

function sizeOf(file: string): number {
  try {
    return fs.statSync(file).size;
  } catch {
    return 0;
  }
}
