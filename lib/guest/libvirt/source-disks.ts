import path from 'node:path';
import type { CopiedDisks, DiskProgress } from '../guest.ts';
import type { BootProcess } from '../handle.ts';
import { StreamSocket } from '../qemu/stream-socket.ts';
import type { CopiedDisk } from './copied-disks.ts';
import { uuidText } from './domain-process.ts';
import { INCOMING_DIR } from './incoming.ts';
import type { LibvirtClient } from './rpc/client.ts';
import type { DomainRef } from './rpc/procedures.ts';

/** Disks of a domain that its libvirt copies, and the socket that its QEMU copies them to. */
export class SourceDisks implements Omit<CopiedDisks, 'copy'> {
  readonly #client: LibvirtClient;
  readonly #domain: DomainRef;
  readonly #targets: readonly string[];
  readonly #socket: StreamSocket;
  readonly bytes: number;
  #onEnd: (() => void) | undefined;

  private constructor(
    client: LibvirtClient,
    domain: DomainRef,
    targets: readonly string[],
    bytes: number,
  ) {
    this.#client = client;
    this.#domain = domain;
    this.#targets = targets;
    this.bytes = bytes;
    // QEMU itself connects, where it can reach it; named so that the next move finds what this one leaves.
    this.#socket = new StreamSocket(path.join(INCOMING_DIR, `godwit-${uuidText(domain.uuid)}`));
  }

  /** @throws GodwitError hypervisor-failed, listen-failed */
  static async find(
    client: LibvirtClient,
    domain: DomainRef,
    disks: readonly CopiedDisk[],
  ): Promise<SourceDisks> {
    const targets = disks.map(({ target }) => target);
    return new SourceDisks(client, domain, targets, await bytesOf(client, domain, disks));
  }

  /** For this process, to listen on. */
  get socket(): string {
    return this.#socket.listenPath;
  }

  /** For QEMU. */
  get path(): string {
    return this.#socket.path;
  }

  /** As `StreamSocket.giveTo`. */
  giveTo(process: BootProcess): void {
    this.#socket.giveTo(process);
  }

  /** Nobody connects any more. */
  remove(): void {
    this.#socket.remove();
  }

  onEnd(listener: () => void): void {
    this.#onEnd = listener;
  }

  /** Libvirt waits for the last answer to a copy before it lets a guest go on. */
  end(): void {
    this.#onEnd?.();
    this.remove();
  }

  /** Libvirt tells of all of them together, and of none before it has begun. */
  async progress(): Promise<DiskProgress> {
    const stats = await this.#client.jobStats(this.#domain);
    const { disk_processed: copied = 0, disk_total: total = 0 } = stats;
    return { names: this.#targets, copied: Number(copied), total: Number(total) };
  }
}

/** What they hold: what will be copied, as far as the guest writes no more. */
export async function bytesOf(
  client: LibvirtClient,
  domain: DomainRef,
  disks: readonly CopiedDisk[],
): Promise<number> {
  const each = await Promise.all(disks.map(({ target }) => client.diskBytes(domain, target)));
  return each.reduce((all, one) => all + one, 0);
}
