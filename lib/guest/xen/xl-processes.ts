import { readFileSync } from 'node:fs';
import { looked, pids } from '../process-identity.ts';

/** Command lines of what xl has started for a move; words end with a NUL. */
const SAVE_HELPER = /(?:libxl-save-helper|agent-send\/helper\.ts)\0(?:.*\0)?--save-domain\0/s;
const TRANSPORT = /agent-send(?:\/main\.ts)?\0xl\0/;

/** The save helpers of an xl, its children: Xen's own, or the agents' in front of it. */
export function helpersOf(xl: number): number[] {
  return childrenOf(xl, SAVE_HELPER);
}

/** Whether an xl has an `agent-send xl`. */
export function transportRuns(xl: number): boolean {
  return childrenOf(xl, TRANSPORT).length > 0;
}

function childrenOf(parent: number, words: RegExp): number[] {
  return pids().filter((pid) => {
    const command = looked(() => readFileSync(`/proc/${pid}/cmdline`, 'latin1')) ?? '';
    const status = looked(() => readFileSync(`/proc/${pid}/status`, 'latin1')) ?? '';
    return Number(/^PPid:\t(\d+)$/m.exec(status)?.[1]) === parent && words.test(command);
  });
}
