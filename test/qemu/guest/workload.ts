/** What the test guest does (see `init.sh` and `checker.c`). */
export interface Workload {
  /** Milliseconds between heartbeats; QEMU's serial port carries a hundred lines a second well. */
  readonly beatMs: number;
  /** Memory that is rewritten and checked, all processors together. 0: none. */
  readonly checkedMiB: number;
  /** Pages rewritten a second. 0: the pages are only checked. */
  readonly dirtyPagesPerSecond: number;
  /** The file in the guest's tmpfs whose MD5 is checked again and again. 0: none. */
  readonly md5MiB: number;
}

export const busy: Workload = {
  beatMs: 10,
  checkedMiB: 64,
  dirtyPagesPerSecond: 5_000,
  md5MiB: 16,
};

export const idle: Workload = { ...busy, dirtyPagesPerSecond: 0 };

/** The words on the kernel's command line that tell it to `init.sh`. */
export function workloadOptions(workload: Workload): string[] {
  return [
    `godwit.beat=${workload.beatMs}`,
    `godwit.mib=${workload.checkedMiB}`,
    `godwit.dirty=${workload.dirtyPagesPerSecond}`,
    `godwit.md5=${workload.md5MiB}`,
  ];
}
