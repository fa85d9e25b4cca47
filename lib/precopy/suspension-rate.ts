/** Caps in bytes per second on the wire: while the guest runs, and while it is suspended. */
export interface Caps {
  readonly bandwidth?: number | undefined;
  readonly suspendBandwidth?: number | undefined;
}

/** What the rounds have shown of the way of the last pages. */
export interface Way {
  /** Guest bytes per second that the receiver acknowledges. */
  readonly drainRate: number;
  /**
   * Guest bytes per second of single batches, from reading one to its acknowledgement, on lanes where
   * nothing else was under way; 0 until there was one.
   */
  readonly burstRate: number;
  /** Guest bytes that a byte on the wire has carried so far; 0 until something was sent. */
  readonly perWireByte: number;
}

/**
 * Guest bytes per second at which the last pages can be expected to go.
 *
 * The drain rate of the rounds is that of the link, of the agents, or of the cap. The cap ends with the
 * suspension, so a rate that it may have held down proves nothing. What a batch takes that has a lane to
 * itself does: the pacer holds it back before it is sent and not on its way. It is less than the link
 * carries, since one batch waits for its answer and one lane is not all of them; and where no batch was
 * alone, the drain rate under the cap is what is assumed. A cap of the suspension bounds both.
 */
export function suspensionRate({ drainRate, burstRate, perWireByte }: Way, caps: Caps): number {
  const { bandwidth, suspendBandwidth } = caps;
  const free = bandwidth === undefined ? drainRate : Math.max(drainRate, burstRate);
  if (suspendBandwidth === undefined) return free;
  return Math.min(free, suspendBandwidth * (perWireByte || 1));
}
