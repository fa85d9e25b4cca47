import path from 'node:path';
import { LibvirtClient } from '../../lib/guest/libvirt/rpc/client.ts';
import { lookAtDomain, unlessNone } from '../../lib/guest/libvirt/run-state.ts';
import { ControlClient } from '../../lib/guest/simulated/control-client.ts';
import { until } from '../e2e/daemon.ts';
import { defaultDomain, domainXml } from '../libvirt/domain.ts';
import { buildGuest, type GuestImage } from '../qemu/guest/build.ts';
import { qemuProgram } from '../qemu/guest/installed.ts';
import { SerialConsole } from '../qemu/guest/serial-console.ts';

/** The guest of a cluster, on nodes that are named by their directories: what is different from one hypervisor to another. */
export interface Web1 {
  /** Of its resource. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Options of agent-recv. */
  readonly receiver: object;
  /** Files in the directory that the nodes share, by name. */
  readonly shared: Readonly<Record<string, string>>;
  /** The libvirt that nodes have; undefined: none. */
  readonly libvirt?: string;
  /** A node has come up, and nothing of the cluster or of Godwit is there yet. */
  nodeIsUp(node: string): Promise<void>;
  /** What its hypervisor says. */
  runsAt(node: string): Promise<boolean>;
  /** What it says there itself: how often its heart has beaten since it was started. */
  beats(node: string): Promise<number>;
  end(): Promise<void>;
}

export class SimulatedWeb1 implements Web1 {
  readonly parameters = { kind: 'simulated', memory: '32MiB' };
  readonly receiver = {};
  readonly shared = {};

  async nodeIsUp(): Promise<void> {}

  async runsAt(node: string): Promise<boolean> {
    return (await this.#ask(node, 'query-status'))?.status === 'running';
  }

  async beats(node: string): Promise<number> {
    return Number((await this.#ask(node, 'query-heartbeat'))?.ticks);
  }

  async end(): Promise<void> {}

  async #ask(node: string, command: string): Promise<Record<string, unknown> | undefined> {
    const socket = path.join(node, 'run/godwit/guests/web1.sock');
    const client = await ControlClient.connect(socket, 'web1').catch(() => undefined);
    try {
      return await client?.execute<Record<string, unknown>>(command);
    } catch {
      return undefined; // it has just ended
    } finally {
      client?.close();
    }
  }
}

/** The path of its console on a node, below its /run. */
const CONSOLE = 'run/console';

/** A domain of libvirt with the Linux test guest, which no node has a definition of. */
export class DomainWeb1 implements Web1 {
  readonly parameters = { kind: 'libvirt', xml: '/mnt/web1.xml' };
  readonly receiver: object;
  readonly shared: Readonly<Record<string, string>>;
  readonly libvirt = '/opt/godwit-libvirt/11.3';
  readonly #consoles = new Map<string, SerialConsole>();

  static async build(): Promise<DomainWeb1> {
    return new DomainWeb1(await buildGuest());
  }

  private constructor(image: GuestImage) {
    const emulator = qemuProgram('10.0');
    const paths = [path.dirname(emulator), image.kernel, image.initramfs, `/${CONSOLE}`];
    this.receiver = { 'libvirt-allow-path': paths };
    const xml = domainXml(image, { ...defaultDomain('10.0'), emulator, console: `/${CONSOLE}` });
    this.shared = { 'web1.xml': xml.replace('<name>vm1<', '<name>web1<') };
  }

  /** Its console is the other end of a line: QEMU connects to it when the guest is started or arrives. */
  async nodeIsUp(node: string): Promise<void> {
    await this.#consoles.get(node)?.close();
    this.#consoles.set(node, await SerialConsole.listen(path.join(node, CONSOLE)));
    const serves = async () => {
      (await LibvirtClient.connect(socketOf(node))).close();
      return true;
    };
    await until(() => serves().catch(() => false), `libvirtd serves ${node}`);
  }

  async runsAt(node: string): Promise<boolean> {
    const client = await LibvirtClient.connect(socketOf(node));
    try {
      const domain = await unlessNone(client.lookup('web1'));
      return domain !== undefined && (await lookAtDomain(client, domain)) === 'running';
    } finally {
      client.close();
    }
  }

  async beats(node: string): Promise<number> {
    const lines = this.#consoles.get(node)!.lines;
    const last = lines.findLast(({ text }) => /^beat \d/.test(text));
    return Number(last?.text.split(' ')[1] ?? 0);
  }

  async end(): Promise<void> {
    for (const console of this.#consoles.values()) await console.close();
  }
}

function socketOf(node: string): string {
  return path.join(node, 'run/libvirt/libvirt-sock');
}
