import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { type Side, until } from '../e2e/hosts.ts';
import { TEST_BOUND_MS } from '../qemu/guest/linux-guest.ts';
import { titled, whyNoLibvirt } from './libvirt-host.ts';
import { LibvirtMigration } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

const LIMITS = ['--peer-timeout', '2s', '--reconnect-timeout', '10s'];
const GENEROUS = ['--max-suspend-time', '20s'];

/** Asks both libvirts all the time whether they run the guest. */
class Watcher {
  readonly #migration: LibvirtMigration;
  readonly #done: Promise<void>;
  #stopped = false;
  two: string | undefined;

  constructor(migration: LibvirtMigration) {
    this.#migration = migration;
    this.#done = this.#watch();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#done;
  }

  /** A source that is asked after the destination was seen to run, and runs, makes two. */
  async #watch(): Promise<void> {
    const state = (side: Side) => this.#migration.state(side).catch(() => undefined);
    for (; !this.#stopped; await sleep(20)) {
      if ((await state('destination')) !== 'running') continue;
      if ((await state('source')) === 'running')
        this.two ??= 'the source runs the guest after the destination did';
    }
  }
}

/** What is durable at the source when it happens decides where the guest is in the end. */
const KILLS: readonly (readonly [Side, string, 'moved' | 'stayed'])[] = [
  ['source', 'source.after.suspend-guest', 'stayed'],
  ['source', 'source.before.seal-guest', 'stayed'],
  ['source', 'source.after.seal-guest', 'stayed'],
  ['source', 'source.after.journal-committed', 'moved'],
  ['source', 'source.before.release-guest', 'moved'],
  ['destination', 'destination.before.journal-prepared', 'stayed'],
  ['destination', 'destination.after.journal-prepared', 'stayed'],
  ['destination', 'destination.before.journal-running', 'moved'],
  ['destination', 'destination.before.resume-guest', 'moved'],
  ['destination', 'destination.after.resume-guest', 'moved'],
];

describe.skipIf(whyNoLibvirt())(titled('a domain whose agent is killed'), () => {
  let migration: LibvirtMigration;
  let watcher: Watcher | undefined;
  afterEach(async ({ task }) => {
    if (watcher === undefined) return;
    if (task.result?.state === 'fail') process.stderr.write(migration.log);
    await watcher.stop();
    watcher = undefined;
    await migration.end();
  });

  test(
    'at every step: it runs once in the end, where the journals say',
    async () => {
      migration = await LibvirtMigration.prepare({ agents: { send: LIMITS, recv: LIMITS } });
      const seen = new Watcher(migration);
      watcher = seen;
      const { hosts, libvirt } = migration;
      for (const [side, place, outcome] of KILLS) {
        const role = side === 'source' ? 'send' : 'recv';
        const host = hosts.at(side);
        await host.agent(role).end();
        await host.start(role, `kill@${place}`);
        await hosts.begin(...GENEROUS);
        const killed = `the agent is killed at ${place}`;
        await until(() => !host.agent(role).alive, killed, TEST_BOUND_MS);
        await host.start(role);
        await (outcome === 'stayed' ? migration.mustHaveStayed() : migration.mustHaveMoved());
        expect(seen.two, place).toBeUndefined();
        if (outcome === 'stayed') continue;
        await migration.mustHaveEnded();
        await libvirt.destination.virsh('destroy', 'vm1');
        await migration.boot();
      }
    },
    KILLS.length * TEST_BOUND_MS,
  );
});
