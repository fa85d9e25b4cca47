import type { Crew } from '../../crew/crew.ts';
import type { GodwitError } from '../../errors.ts';
import type { RegionFile } from '../../memory/guest-layout.ts';
import { Egress } from '../push/egress.ts';

export const EGRESS = new URL('./egress-task.ts', import.meta.url);

export interface EgressData {
  /** Where QEMU waits for its migration stream. */
  readonly socket: string;
  readonly prologue: Uint8Array;
  /** Number of the RAM's section in the prologue. */
  readonly sectionId: number;
  /** The regions that QEMU gets in the stream; a region's name is that of its RAM block. */
  readonly staged: readonly RegionFile[];
}

/** The migration stream to a destination QEMU. Its last word is 0 when it has loaded everything. */
export type QemuEgress = Egress<number>;

export function openEgress(
  crew: Crew,
  data: EgressData,
  onFailure: (error: GodwitError) => void,
): QemuEgress {
  return new Egress(crew, EGRESS, data, onFailure);
}
