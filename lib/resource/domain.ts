import fs from 'node:fs';
import path from 'node:path';
import { asGodwitError } from '../errors.ts';
import { endProcess } from '../guest/end-process.ts';
import { processOf } from '../guest/libvirt/domain-process.ts';
import { libvirtSocketOf } from '../guest/libvirt/hypervisor.ts';
import { LibvirtClient } from '../guest/libvirt/rpc/client.ts';
import type { DomainRef } from '../guest/libvirt/rpc/procedures.ts';
import { lookAtDomain, unlessNone } from '../guest/libvirt/run-state.ts';
import { identify, isAlive } from '../guest/process-identity.ts';
import type { RunState } from '../guest/run-state.ts';
import { poll } from '../poll.ts';
import type { Call } from './call.ts';
import type { GuestHere } from './guest-here.ts';
import type { Places } from './places.ts';

const POLL_MS = 250;

/** A guest of this host's libvirt, by its RPC. */
export class Domain implements GuestHere {
  readonly #name: string;
  readonly #socket: string;
  readonly #xml: string | undefined;

  constructor({ guest, xml }: Call, { libvirtSocket }: Places) {
    this.#name = guest;
    this.#xml = xml;
    this.#socket = libvirtSocketOf(libvirtSocket);
  }

  /** A libvirtd that is down has not ended its guests: the process is there, and nothing else is known. */
  async look(): Promise<RunState | 'gone'> {
    try {
      return await this.#asking(async (client) => {
        const domain = await unlessNone(client.lookup(this.#name));
        return (domain && (await lookAtDomain(client, domain))) ?? 'gone';
      });
    } catch (thrown) {
      if (this.#qemu() !== undefined) return 'running';
      throw thrown;
    }
  }

  /** The domain that libvirt has defined, or one of the XML that the resource names. */
  async start(): Promise<void> {
    await this.#asking(async (client) => {
      const defined = await unlessNone(client.lookup(this.#name));
      if (this.#xml !== undefined) await client.createXml(fs.readFileSync(this.#xml, 'utf8'));
      else if (defined !== undefined) await client.create(defined);
      else await client.lookup(this.#name); // libvirt says itself what is missing
    });
  }

  async stop(graceMs: number): Promise<void> {
    try {
      await this.#asking((client) => this.#end(client, graceMs));
    } catch (thrown) {
      const qemu = this.#qemu();
      if (qemu === undefined || asGodwitError(thrown).code === 'internal') throw thrown;
      await endProcess(qemu);
    }
  }

  async #end(client: LibvirtClient, graceMs: number): Promise<void> {
    const domain = await unlessNone(client.lookup(this.#name));
    if (domain === undefined || (await lookAtDomain(client, domain)) === undefined) return;
    const process = processOf(this.#socket, domain);
    if (await this.#asksToShutDown(client, domain))
      await poll(graceMs, POLL_MS, () => (isAlive(process) ? undefined : true));
    if (isAlive(process)) await client.destroy(domain).catch(() => {}); // the process is what counts
    await endProcess(process);
  }

  /** False for a guest that does not run, and so hears nothing. */
  async #asksToShutDown(client: LibvirtClient, domain: DomainRef): Promise<boolean> {
    if ((await lookAtDomain(client, domain)) !== 'running') return false;
    return client.shutdown(domain).then(
      () => true,
      () => false,
    );
  }

  /** By what libvirt leaves behind: its pid file, and the name in QEMU's command line. */
  #qemu() {
    try {
      const file = path.join(path.dirname(this.#socket), 'qemu', `${this.#name}.pid`);
      const pid = Number(fs.readFileSync(file, 'latin1').trim());
      const words = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      const isIts = words.some((word) => word.split(',').includes(`guest=${this.#name}`));
      return isIts ? identify(pid) : undefined;
    } catch {
      return undefined; // there is none
    }
  }

  async #asking<T>(ask: (client: LibvirtClient) => Promise<T>): Promise<T> {
    const client = await LibvirtClient.connect(this.#socket);
    try {
      return await ask(client);
    } finally {
      client.close();
    }
  }
}
