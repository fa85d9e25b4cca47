import os from 'node:os';
import type { CpuTimes } from '../report/records.ts';
import { projectVersion } from '../version.ts';
import type { HostFacts } from '../wire/messages.ts';

const VERSION = projectVersion();
/** Characters of a hypervisor's name and version: whatever it calls itself has to fit the frame. */
const MAX_VERSION = 80;

/**
 * What this host is, for people, and the processor time that its agent has used since it started.
 * @param hypervisor name and version, where the guest's hypervisor says it
 */
export function thisHost(agent: 'agent-send' | 'agent-recv', hypervisor = ''): HostFacts {
  return {
    name: os.hostname(),
    cpus: os.availableParallelism(),
    system: `${os.type()} ${os.release()} ${os.machine()}`,
    agent: `${agent} ${VERSION}, Node ${process.versions.node}`,
    cpuMs: ownCpuMs(),
    hypervisor: hypervisor.slice(0, MAX_VERSION),
  };
}

function ownCpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** The processor time of both agents since a migration began, as far as it is known. */
export class CpuClock {
  readonly #ownFrom = ownCpuMs();
  #theirsFrom: number | undefined;
  #theirsMs: number | undefined;

  /** The other agent has used so much since it started, ms. */
  heard(cpuMs: number): void {
    this.#theirsFrom ??= cpuMs;
    this.#theirsMs = Math.max(0, cpuMs - this.#theirsFrom);
  }

  get times(): CpuTimes {
    return { sourceMs: ownCpuMs() - this.#ownFrom, destinationMs: this.#theirsMs };
  }
}
