import type { Crew } from '../../crew/crew.ts';
import type { GodwitError } from '../../errors.ts';
import type { RegionFile } from '../../memory/guest-layout.ts';
import { Egress } from '../push/egress.ts';

export const XEN_EGRESS = new URL('./egress-task.ts', import.meta.url);

export interface XenEgressData {
  /** A descriptor of the pipe that `xl migrate-receive` reads; the task's from here on. */
  readonly pipe: number;
  readonly prologue: Uint8Array;
  /** The guest's pages and their types, staged. */
  readonly staged: readonly RegionFile[];
}

/** The stream to an `xl migrate-receive`, with the pages whose types are known. It has no last word. */
export type XenEgress = Egress<undefined>;

export function openXenEgress(
  crew: Crew,
  data: XenEgressData,
  onFailure: (error: GodwitError) => void,
): XenEgress {
  return new Egress(crew, XEN_EGRESS, data, onFailure);
}
