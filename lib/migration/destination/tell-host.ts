import type { HostFacts } from '../../wire/messages.ts';
import { thisHost } from '../host.ts';
import type { Releases } from '../releases.ts';

/** As often as pings, ms. */
const EVERY_MS = 1000;
/** Rounds may be much shorter, ms. */
const APART_MS = 100;

/**
 * Tells the sender what this host is and how much processor time its agent takes: now, every second,
 * and when the returned function is called.
 */
export function tellHost(
  hypervisor: string | undefined,
  say: (facts: HostFacts) => void,
  releases: Releases,
): () => void {
  let toldMs = Number.NEGATIVE_INFINITY;
  const tell = () => {
    const now = performance.now();
    if (now - toldMs < APART_MS) return;
    toldMs = now;
    say(thisHost('agent-recv', hypervisor));
  };
  const timer = setInterval(tell, EVERY_MS).unref();
  releases.add(() => clearInterval(timer));
  tell();
  return tell;
}
