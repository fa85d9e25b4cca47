import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { buildGuest, type GuestImage } from './build.ts';
import { defaultShape, type GuestShape, type HostParts, qemuArguments } from './command-line.ts';
import { SerialConsole } from './serial-console.ts';

const DISK_BYTES = 4 << 20;

export interface SiteOptions extends Partial<GuestShape> {
  /** `files`: in /dev/shm, where others than QEMU may write it. `anonymous` if not given. */
  readonly ram?: 'files' | 'anonymous';
  /** Directory for RAM files and disk: /dev/shm if not given. */
  readonly memoryIn?: string;
  /** From where the guest will come: shape and disk are the same, and its console goes on here. */
  readonly origin?: GuestSite;
}

/**
 * One end of a guest's migration, without the QEMU: sockets, RAM files, disk and command line. For a QEMU
 * that the agents start, put `arguments` into their definition of the guest.
 */
export class GuestSite {
  readonly shape: GuestShape;
  readonly host: HostParts;
  readonly console: SerialConsole;
  /** For QEMU; a destination's need `-incoming defer -S` in addition. */
  readonly arguments: readonly string[];
  readonly #dirs: readonly string[];

  static async prepare({
    ram,
    memoryIn = '/dev/shm',
    origin,
    ...given
  }: SiteOptions = {}): Promise<GuestSite> {
    const image = await buildGuest();
    const shape = { ...defaultShape, ...origin?.shape, ...given };
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-guest-'));
    const memoryDir = fs.mkdtempSync(path.join(memoryIn, 'godwit-guest-'));
    const console = await SerialConsole.listen(path.join(dir, 'console'), origin?.console);
    const host = {
      console: console.path,
      monitor: path.join(dir, 'qmp'),
      testMonitor: path.join(dir, 'qmp-test'),
      ramFiles: ram === 'files' ? ramFiles(memoryDir, shape.nodes) : [],
      disk: origin?.host.disk ?? newDisk(memoryDir),
    };
    return new GuestSite(image, shape, host, console, [dir, memoryDir]);
  }

  private constructor(
    image: GuestImage,
    shape: GuestShape,
    host: HostParts,
    console: SerialConsole,
    dirs: readonly string[],
  ) {
    this.shape = shape;
    this.host = host;
    this.console = console;
    this.arguments = qemuArguments(image, shape, host);
    this.#dirs = dirs;
  }

  /** Once no QEMU uses it any more, here or at the destination. */
  async remove(): Promise<void> {
    await this.console.close();
    for (const dir of this.#dirs) fs.rmSync(dir, { recursive: true });
  }
}

function ramFiles(dir: string, nodes: number): string[] {
  return Array.from({ length: nodes }, (_, node) => path.join(dir, `node${node}.ram`));
}

/** In memory as well: a guest that waits for the host's disk would be no measure of a migration. */
function newDisk(dir: string): string {
  const file = path.join(dir, 'disk');
  fs.writeFileSync(file, '');
  fs.truncateSync(file, DISK_BYTES);
  return file;
}
