import { afterEach, describe, expect, test, vi } from 'vitest';
import { type Daemon, type HostsOptions, until } from '../e2e/hosts.ts';
import { titled, whyNoQemu } from './guest/installed.ts';
import { TEST_BOUND_MS } from './guest/linux-guest.ts';
import { QemuMigration, small } from './migration.ts';

vi.setConfig({ testTimeout: TEST_BOUND_MS, hookTimeout: TEST_BOUND_MS });

const GENEROUS = ['--max-suspend-time', '20s'];
const SLOWLY = ['--bandwidth', '2MB/s', '--suspend-bandwidth', '2MB/s', '--no-compression'];

describe.skipIf(whyNoQemu())(titled('a QEMU is killed'), () => {
  let migration: QemuMigration;
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(migration.log);
    await migration.end();
  });

  async function prepare(faults: HostsOptions['faults'] = {}): Promise<void> {
    const agents = { faults };
    migration = await QemuMigration.prepare({
      source: small,
      destination: { ram: 'files' },
      agents,
    });
  }

  const killDestination = () => process.kill(migration.destinationQemu()!, 'SIGKILL');

  /** Migrates until the agent stands still at its fault, does that, and lets it go on to the end. */
  async function during(agent: Daemon, act: () => void) {
    const id = await migration.hosts.begin(...GENEROUS);
    await until(() => agent.standsStill, 'the agent stands still');
    act();
    agent.process.kill('SIGCONT');
    return migration.hosts.ended(id);
  }

  /** Migrates slowly until the guest is suspended, and does that. */
  async function whileSuspended(act: () => void) {
    const { hosts } = migration;
    const id = await hosts.begin(...GENEROUS, ...SLOWLY);
    await until(async () => (await hosts.view(id)).pagesSent > 500, 'pages are sent');
    await hosts.run(['cutover', id, '--force']);
    await until(async () => (await hosts.view(id)).phase === 'stop-and-copy', 'it is suspended');
    act();
    return hosts.ended(id);
  }

  test('at the destination: the guest runs on at its source, and moves later', async () => {
    await prepare();
    const { hosts } = migration;
    expect(await whileSuspended(killDestination)).toMatchObject({
      outcome: 'failed',
      code: 'guest-died',
    });
    await migration.mustHaveStayed();

    await hosts.send.end();
    await hosts.startSend('stop@source.before.seal-guest');
    const prepared = await during(hosts.send, killDestination);
    expect(prepared).toMatchObject({ outcome: 'failed' });
    await migration.mustHaveStayed();

    await hosts.recv.end();
    await hosts.startRecv('stop@destination.before.resume-guest');
    const committed = await during(hosts.recv, killDestination);
    expect(committed).toMatchObject({ outcome: 'failed', code: 'commit-refused' });
    await migration.mustHaveStayed();

    expect(await hosts.migrate(...GENEROUS)).toMatchObject({ exit: 0, outcome: 'completed' });
    await migration.mustHaveMoved();
  });

  test('at the source, while the guest is suspended: the destination lets go of it', async () => {
    await prepare();
    const killed = await whileSuspended(() => migration.source.process.kill('SIGKILL'));
    expect(killed).toMatchObject({ outcome: 'failed', code: 'guest-died' });
    await until(() => migration.destinationQemu() === undefined, 'QEMU is gone');
    migration.hosts.mustLive();
  });

  test('at the source, once the guest is given away: it runs at its destination', async () => {
    await prepare({ send: 'stop@source.before.send-commit' });
    const { hosts, source } = migration;
    const killed = await during(hosts.send, () => source.process.kill('SIGKILL'));
    expect(killed).toMatchObject({ outcome: 'completed' });
    await migration.mustHaveMoved();
  });
});
