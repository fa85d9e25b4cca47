import { realpathSync, statSync } from 'node:fs';
import { GodwitError } from '../../errors.ts';
import { PAGE_SIZE, type Region, type RegionFile } from '../../memory/guest-layout.ts';
import { formatSize } from '../../units.ts';
import { mapsShared } from '../file-users.ts';
import type { GuestDefinition, RamFile } from './definition.ts';
import type { QmpClient } from './qmp.ts';
import type { WaitingQemu } from './waiting.ts';

/** Where the regions of a guest that is to arrive go. */
export interface Placement {
  /** Direct: into the RAM file that QEMU maps. */
  readonly direct: readonly RegionFile[];
  /** Stream: by way of a staging file into QEMU's migration stream. */
  readonly staged: readonly Region[];
}

/**
 * What a definition says about the memory of a guest with these regions.
 * @throws GodwitError memory-insufficient beyond its limit; definition-invalid for a RAM file of a
 *   block that the guest does not have
 */
export function placementOf(definition: GuestDefinition, regions: readonly Region[]): Placement {
  const { ram } = definition;
  const bytes = regions.reduce((sum, { pages }) => sum + pages * PAGE_SIZE, 0);
  requireAllowed(definition, bytes, ', video memory and firmware included');
  for (const { block } of ram) {
    if (regions.some((region) => region.name === block)) continue;
    const known = regions.map((region) => region.name).join(', ');
    throw invalid(
      definition,
      `"ram" has a file for RAM block "${block}", but the guest has ${known}`,
    );
  }
  const fileOf = (region: Region) => ram.find(({ block }) => block === region.name)?.file;
  const placed = regions.map((region) => ({ region, path: fileOf(region) }));
  return {
    direct: placed.flatMap(({ region, path }) => (path ? [{ region, path, offset: 0 }] : [])),
    staged: placed.filter(({ path }) => path === undefined).map(({ region }) => region),
  };
}

/**
 * @param included what of its memory the bytes have in them, for people
 * @throws GodwitError memory-insufficient beyond the definition's limit
 */
export function requireAllowed(
  { name, file, limits }: GuestDefinition,
  bytes: number,
  included = '',
): void {
  if (limits.memory === undefined || bytes <= limits.memory) return;
  const text = `guest ${name} has ${formatSize(bytes)} of memory${included}; ${file} allows ${formatSize(limits.memory)} ("limits.memory")`;
  throw new GodwitError('memory-insufficient', text);
}

/**
 * Makes sure that what is written to the RAM files will be the guest's memory.
 * @throws GodwitError definition-invalid
 */
export async function checkRamFiles(
  definition: GuestDefinition,
  { direct }: Placement,
  qemu: WaitingQemu,
): Promise<void> {
  for (const { region, path } of direct) {
    await checkBackend(definition, { block: region.name, file: path }, qemu.qmp);
    if (qemu.attached) checkFresh(definition, path, region.pages * PAGE_SIZE);
    if (!mapsShared(qemu.pid, path, statSync(path)))
      throw invalid(definition, `${path} is not the file that QEMU has opened: it was replaced`);
  }
}

interface Backend {
  readonly id?: string;
  readonly share: boolean;
}

async function checkBackend(
  definition: GuestDefinition,
  { block, file }: RamFile,
  qmp: QmpClient,
): Promise<void> {
  const backends = await qmp.execute<Backend[]>('query-memdev');
  const backend = backends.find(({ id }) => id === block);
  if (backend === undefined) throw invalid(definition, `no memory backend has the id "${block}"`);
  if (!backend.share)
    throw invalid(
      definition,
      `the memory backend "${block}" must have share=on: its memory is in a RAM file`,
    );
  const request = { path: `/objects/${block}`, property: 'mem-path' };
  const memPath = await qmp.execute<string>('qom-get', request).catch(() => ''); // it has none
  if (memPath === '' || realpathSync(memPath) !== realpathSync(file))
    throw invalid(
      definition,
      `the memory backend "${block}" has its memory in ${memPath || 'no file'}, not in ${file}`,
    );
}

/** A QEMU that was not started here may have been given the file of another guest, or another file. */
function checkFresh(definition: GuestDefinition, file: string, bytes: number): void {
  const stats = statSync(file);
  if (stats.size !== bytes)
    throw invalid(definition, `${file} has ${stats.size} bytes, the guest needs ${bytes}`);
  if (stats.blocks > 0)
    throw invalid(
      definition,
      `${file} holds data already: a guest can only arrive in an empty RAM file`,
    );
}

function invalid({ file }: GuestDefinition, why: string): GodwitError {
  return new GodwitError('definition-invalid', `${file}: ${why}`);
}
