import { GodwitError } from '../../errors.ts';
import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import type { SeenWindow } from '../../memory/working-set.ts';
import { poll } from '../../poll.ts';
import { type Observation, type Profiling, requireRunning } from '../profile.ts';
import { profileByWindows, type WindowMeter } from '../windows.ts';
import { processOf } from './domain-process.ts';
import { Life } from './life.ts';
import { ramFilesOf } from './ram-files.ts';
import { LibvirtClient } from './rpc/client.ts';
import type { DomainRef, Parameters } from './rpc/procedures.ts';
import { lookAtDomain } from './run-state.ts';

/** A thread of QEMU's reads and hashes its sample twice; a machine under load gets more. */
const LATE_LIMIT_MS = 20_000;
const POLL_MS = 50;
/** virDomainDirtyRateStatus. */
const MEASURED = 2;
/** How QEMU calls the memory of a guest that has no NUMA nodes. */
const RAM = 'pc.ram';
const PAGES_OF_MIB = 2 ** 20 / PAGE_SIZE;

/**
 * Watches a domain by what libvirt has QEMU measure, in windows of whole seconds.
 * @throws GodwitError as `Guest.profile`
 */
export async function profileDomain(
  { socket, name }: { readonly socket: string; readonly name: string },
  profiling: Profiling,
): Promise<Observation> {
  const client = await LibvirtClient.connect(socket);
  let stopped = false;
  const stop = () => {
    stopped = true;
  };
  try {
    const domain = await client.lookup(name);
    await client.listen();
    new Life(client, domain).listen({ stop, resume: () => {}, gone: stop });
    const state = await lookAtDomain(client, domain);
    if (state === undefined)
      throw new GodwitError('guest-not-running', `guest ${name} does not run`);
    requireRunning(name, state);
    const memoryBytes = await client.memoryBytes(domain);
    const region = { name: RAM, firstPfn: 0, pages: memoryBytes / PAGE_SIZE };
    const files = ramFilesOf(processOf(socket, domain), [region]);
    const watched = { name, memoryBytes, files, hasStopped: () => stopped };
    return await profileByWindows(new DomainDirtyRate(client, domain), watched, profiling);
  } finally {
    client.close();
  }
}

class DomainDirtyRate implements WindowMeter {
  readonly shortestMs = 1000;
  readonly #client: LibvirtClient;
  readonly #domain: DomainRef;

  constructor(client: LibvirtClient, domain: DomainRef) {
    this.#client = client;
    this.#domain = domain;
  }

  async measure(ms: number): Promise<SeenWindow> {
    await this.#client.startDirtyRate(this.#domain, ms / 1000);
    const ask = () => this.#client.dirtyRate(this.#domain);
    const isMeasured = ({ 'dirtyrate.calc_status': status }: Parameters) => status === MEASURED;
    await poll(ms + LATE_LIMIT_MS, POLL_MS, async () => isMeasured(await ask()) || undefined);
    // QEMU looks at the rate before the status: the one that comes with the news may be the old one.
    const seen = await ask();
    const rate = Number(seen['dirtyrate.megabytes_per_second'] ?? -1);
    if (!isMeasured(seen) || rate < 0)
      throw new GodwitError('hypervisor-failed', "QEMU did not measure the guest's dirty rate");
    return { ms, pages: Math.round((rate * PAGES_OF_MIB * ms) / 1000) };
  }
}
