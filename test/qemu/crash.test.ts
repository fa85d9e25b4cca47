import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { QmpClient } from '../../lib/guest/qemu/qmp.ts';
import { type Side, until } from '../e2e/hosts.ts';
import { titled, whyNoQemu } from './guest/installed.ts';
import { TEST_BOUND_MS } from './guest/linux-guest.ts';
import { QemuMigration, small } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

const LIMITS = ['--peer-timeout', '2s', '--reconnect-timeout', '10s'];

/** Asks both QEMUs all the time whether they run the guest; holds the destination's test monitor. */
class Watcher {
  readonly #migration: QemuMigration;
  readonly #done: Promise<void>;
  #stopped = false;
  /** How often the guest was seen to run at its destination. */
  looks = 0;
  two: string | undefined;

  constructor(migration: QemuMigration) {
    this.#migration = migration;
    this.#done = this.#watch();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#done;
  }

  /** A source that is asked after the destination was seen to run, and runs, makes two. */
  async #watch(): Promise<void> {
    const { source, destination } = this.#migration;
    let there: QmpClient | undefined;
    const ask = (qmp: QmpClient) => qmp.execute<{ running: boolean }>('query-status');
    for (; !this.#stopped; await sleep(5)) {
      there ??= await QmpClient.connect(destination.host.testMonitor).catch(() => undefined);
      const ran = there && (await ask(there).catch(() => undefined));
      if (there && !ran) there = undefined;
      if (!ran?.running) continue;
      this.looks++;
      const runs = await ask(source.qmp).catch(() => undefined);
      if (runs?.running) this.two ??= 'the source runs the guest after the destination did';
    }
    there?.close();
  }
}

/** What is durable at the source when it happens decides where the guest is in the end. */
const KILLS: readonly (readonly [Side, string, 'moved' | 'stayed'])[] = [
  ['source', 'source.after.suspend-guest', 'stayed'],
  ['source', 'source.after.seal-guest', 'stayed'],
  ['source', 'source.after.journal-committed', 'moved'],
  ['destination', 'destination.before.journal-prepared', 'stayed'],
  ['destination', 'destination.before.journal-running', 'moved'],
];

describe.skipIf(whyNoQemu())(titled('a QEMU guest whose agent is killed'), () => {
  let migration: QemuMigration;
  let watcher: Watcher;
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(migration.log);
    await watcher.stop();
    await migration.end();
  });

  test.each(KILLS)('%s, at %s: has %s, once', async (side, place, outcome) => {
    const fault = `kill@${place}`;
    const faults = side === 'source' ? { send: fault } : { recv: fault };
    migration = await QemuMigration.prepare({
      source: small,
      destination: { ram: 'files' },
      agents: { send: LIMITS, recv: LIMITS, faults },
    });
    watcher = new Watcher(migration);
    const { hosts } = migration;
    const kept = path.join(hosts.stateDirOf('source'), 'qemu-settings');
    const agent = side === 'source' ? hosts.send : hosts.recv;
    const settings = ['query-migrate-capabilities', 'query-migrate-parameters'] as const;
    const set = () => Promise.all(settings.map((query) => migration.source.qmp.execute(query)));
    const before = await set();
    await hosts.begin('--max-suspend-time', '20s');
    await until(() => !agent.alive, 'the agent is killed');
    await (side === 'source' ? hosts.startSend() : hosts.startRecv());
    const running = async () => (await migration.status('source')) === 'running';
    if (outcome === 'stayed') {
      await until(running, 'the guest runs at its source');
      await migration.mustHaveStayed();
      await until(async () => isDeepStrictEqual(await set(), before), 'QEMU is set as before');
      expect(fs.readdirSync(kept)).toEqual([]);
    } else {
      await until(() => watcher.looks > 0, 'the guest runs at its destination');
      await until(() => !migration.source.alive, 'QEMU is gone from the source');
      await watcher.stop(); // its monitor is wanted
      await migration.mustHaveMoved();
      await until(
        () => fs.readdirSync(kept).length === 0,
        'nothing is kept of a QEMU that is gone',
      );
    }
    expect(watcher.two).toBeUndefined();
  });
});
