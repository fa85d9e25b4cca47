import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { until } from '../e2e/daemon.ts';
import { Host, type Role } from '../e2e/host.ts';
import { GuestSite } from '../qemu/guest/guest-site.ts';
import { type QemuVersion, qemuProgram } from '../qemu/guest/installed.ts';
import { LinuxGuest } from '../qemu/guest/linux-guest.ts';
import { type Beat, beatsIn, longestStandstill } from '../qemu/guest/witness.ts';
import { busy } from '../qemu/guest/workload.ts';
import { endQemu, smaller } from '../qemu/migration.ts';
import { keepBusy } from './busy-loop.ts';
import { type Asked, GUEST, type Moved, Mover } from './moved.ts';

/** A Linux guest under QEMU, for as many moves as are made of it. */
export interface QemuShape {
  readonly qemu: QemuVersion;
  readonly memoryMiB: number;
  readonly cpus: number;
  /** `files`: direct placement on either side. */
  readonly ram: 'files' | 'anonymous';
  readonly dirtyPagesPerSecond: number;
}

/** One end of the way: a host with both its agents, and what the guest is there. */
interface End {
  readonly host: Host;
  readonly site: GuestSite;
}

/** Beats that have to be heard on either side of a move for its suspension to be told. */
const BEATS = 60;

/** Moves one guest of QEMU back and forth between two hosts. */
export class QemuPromises {
  readonly shape: QemuShape;
  readonly #guest: LinuxGuest;
  readonly #ends: [here: End, there: End];
  readonly #dir: string;

  private constructor(shape: QemuShape, guest: LinuxGuest, ends: [End, End], dir: string) {
    this.shape = shape;
    this.#guest = guest;
    this.#ends = ends;
    this.#dir = dir;
  }

  static async open(shape: QemuShape): Promise<QemuPromises> {
    const { qemu, memoryMiB, cpus, ram, dirtyPagesPerSecond } = shape;
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-promise-'));
    const workload = { ...smaller(busy), dirtyPagesPerSecond };
    const guest = await LinuxGuest.start({ qemu, memoryMiB, cpus, ram, workload });
    const there = await GuestSite.prepare({ ram, origin: guest.site });
    const ends = [guest.site, there].map((site, i) => ({
      host: hostOf(path.join(dir, 'AB'[i]!), qemu, site),
      site,
    })) as [End, End];
    const promises = new QemuPromises(shape, guest, ends, dir);
    try {
      const roles: readonly Role[] = ['send', 'recv'];
      await Promise.all(ends.flatMap(({ host }) => roles.map((role) => host.start(role))));
      await guest.site.console.line(/^beat/, { from: 0 });
    } catch (error) {
      await promises.close();
      throw error;
    }
    return promises;
  }

  async keep(asked: Asked): Promise<Moved> {
    const [here, there] = this.#ends;
    const mover = new Mover(asked, here.host, there.host);
    const calm = asked.busyMachine ? keepBusy() : () => {};
    try {
      const foretold = await mover.foretell();
      const first = await this.#beatsOn(0);
      const view = await mover.move();
      const { outcome, code, message, enoughMs: ms, elapsedMs } = view;
      if (outcome === 'completed') this.#ends.reverse();
      await this.#settled();
      this.#mustBeWhole();
      const guestMs = longestStandstill((await this.#beatsOn(BEATS)).slice(first.length - BEATS));
      const records = await mover.ledgerOf(view);
      const suspension = records.find((record) => record.type === 'suspension');
      const tried = outcome !== 'completed' && ms !== undefined;
      const enough = tried ? { ms, moved: await this.#again(mover, ms) } : undefined;
      const ended = { outcome: outcome!, code, message, ms: elapsedMs, guestMs };
      return { asked, foretold, ...ended, suspension, enough };
    } finally {
      calm();
    }
  }

  async close(): Promise<void> {
    for (const { host, site } of this.#ends) {
      await host.endAgents();
      await endQemu(site.host.testMonitor);
    }
    await this.#guest.end();
    for (const { site } of this.#ends) if (site !== this.#guest.site) await site.remove();
    fs.rmSync(this.#dir, { recursive: true, force: true });
  }

  async #again(mover: Mover, ms: number): Promise<boolean> {
    const { outcome } = await mover.move(ms);
    if (outcome === 'completed') this.#ends.reverse();
    await this.#settled();
    return outcome === 'completed';
  }

  /** The guest looks at its own memory all the time. */
  #mustBeWhole(): void {
    const lines = this.#ends.flatMap(({ site }) => site.console.lines.map(({ text }) => text));
    const bad = lines.filter((text) => /BAD|Kernel panic/.test(text));
    if (bad.length > 0) throw new Error(bad.join('\n'));
  }

  /** Both hosts are done with it. */
  async #settled(): Promise<void> {
    const open = () => this.#ends.flatMap(({ host }) => host.openInJournals());
    await until(() => open().length === 0, 'nothing is open in the journals');
  }

  /** All so far, wherever the guest was; and so many from now on. */
  async #beatsOn(more: number): Promise<readonly Beat[]> {
    const heard = () =>
      this.#ends
        .flatMap(({ site }) => beatsIn(site.console.lines))
        .toSorted((a, b) => a.number - b.number);
    const enough = Math.max(BEATS, heard().length + more);
    await until(() => heard().length >= enough, 'the heart beats');
    return heard();
  }
}

function hostOf(dir: string, qemu: QemuVersion, site: GuestSite): Host {
  const at = (...names: string[]) => path.join(dir, ...names);
  fs.mkdirSync(at('definitions'), { recursive: true, mode: 0o700 });
  const definition = {
    hypervisor: 'qemu',
    qmp: site.host.monitor,
    command: [qemuProgram(qemu), ...site.arguments],
    ram: site.host.ramFiles.map((file) => ({ block: 'pc.ram', file })),
  };
  fs.writeFileSync(at('definitions', `${GUEST}.json`), JSON.stringify(definition), { mode: 0o600 });
  const options = ['--definitions', at('definitions')];
  const ramDir = path.dirname(site.host.ramFiles[0] ?? site.host.disk);
  return new Host(
    path.basename(dir),
    {
      dir,
      guestDir: at('guests'),
      ramDir,
      bootRamDir: ramDir,
      hostDir: at('host'),
      sockets: { send: at('send.sock'), recv: at('recv.sock') },
      stateDirs: { send: at('send'), recv: at('recv') },
    },
    { send: options, recv: options },
  );
}
