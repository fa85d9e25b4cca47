import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { EXIT } from '../../lib/exit.ts';
import { root } from '../cli/run.ts';
import { Host, whyNoHost } from './host.ts';

/** The package in the life of a host: installed, upgraded over a running migration, removed, purged. */

const run = promisify(execFile);
const why = whyNoHost();
const agents = ['agent-send', 'agent-recv'] as const;
const { version: FIRST } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8'));
const SECOND = `${FIRST}.1`;
/** Where the package has the project. */
const INSTALLED = '/usr/lib/godwit';

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-packages-'));
let host: Host;
/** A migration that is not through when the package is removed. */
let open = '';

describe.skipIf(why)(`the package${why ? ` (skipped: ${why})` : ''}`, () => {
  beforeAll(async () => {
    [host] = await Promise.all([Host.start(), make()]);
    for (const deb of fs.globSync('*.deb', { cwd: dir }))
      fs.copyFileSync(path.join(dir, deb), host.file(`/tmp/${deb}`));
  });

  afterAll(async () => {
    await host?.stop();
  });

  async function ok(...command: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await host.run(...command);
    expect(code, `${command.join(' ')}: ${stdout}${stderr}`).toBe(0);
    return `${stdout}${stderr}`;
  }

  function dpkg(...args: readonly string[]): Promise<string> {
    return ok('dpkg', '--force-unsafe-io', '--no-triggers', ...args);
  }

  /** What systemd says of a unit. */
  async function unit(name: string, property: string): Promise<string> {
    return (await ok('systemctl', 'show', '--value', `--property=${property}`, name)).trim();
  }

  /** Of the operator, who keeps it until the package is purged. */
  function configure(): void {
    const configuration = JSON.stringify({ 'host-dir': '/var/lib/godwit/other-host' });
    fs.writeFileSync(host.file('/etc/godwit/agent-recv.json'), configuration);
  }

  async function boot(guest: string): Promise<void> {
    const vmm = [`${INSTALLED}/node_modules/.bin/node`, `${INSTALLED}/lib/guest/simulated/vmm.ts`];
    const args = ['--name', guest, '--dir', '/run/godwit/guests', '--memory', '32MiB'];
    await ok('systemd-run', '--quiet', `--unit=${guest}`, ...vmm, ...args);
    await sees(guest, 'agent-send', 'guests');
  }

  /** Begins a move that waits for a cutover, and returns its ID. */
  async function hold(guest: string): Promise<string> {
    // A busy machine may need its time: no limit is tried here.
    const how = ['--hold', '--detach', '--max-suspend-time', '60s'];
    const id = (await ok('agent-send', 'migrate', guest, '127.0.0.1', ...how)).trim();
    await sees('held', 'agent-send', 'show', id);
    return id;
  }

  async function sees(text: string, ...command: readonly string[]): Promise<void> {
    const look = async () => (await host.run(...command)).stdout;
    await expect.poll(look, { timeout: 200_000, interval: 250 }).toContain(text);
  }

  test('is installed, and starts nothing', async () => {
    await dpkg('-i', `/tmp/${FIRST}.deb`);
    for (const agent of agents) {
      expect(await ok(agent, '--version')).toMatch(new RegExp(`^${agent} ${FIRST} \\(node `));
      expect(await ok(agent, '--help')).toContain(`Usage: ${agent} COMMAND`);
      const config = `/etc/godwit/${agent}.json`;
      expect(await ok(agent, 'serve', '--config', config, '--check-config')).toContain('log-level');
      expect(await unit(agent, 'ActiveState')).toBe('inactive');
      expect(await unit(agent, 'UnitFileState')).toBe('disabled');
    }
    expect((await ok('dpkg', '--verify', 'godwit')).trim()).toBe('');
    expect(fs.readdirSync(host.file('/var/cache/godwit/compiled'))).not.toEqual([]);
  });

  test('has units of which systemd finds nothing to say, manual and all', async () => {
    const units = ['agent-send.service', 'agent-recv.service', 'agent-recv.socket'];
    expect(await ok('systemd-analyze', 'verify', ...units)).toBe('');
  });

  test('has agents that serve in their sandbox', async () => {
    // The destination of this host is another host: it has records of its own.
    const unitOf = '/etc/systemd/system/agent-recv.service.d';
    fs.mkdirSync(host.file(unitOf));
    const directories = 'StateDirectory=godwit/other-host';
    fs.writeFileSync(host.file(`${unitOf}/other-host.conf`), `[Service]\n${directories}\n`);
    configure();
    await ok('systemctl', 'daemon-reload');
    await ok('systemctl', 'enable', '--now', ...agents);
    for (const agent of agents) expect(await ok(agent, 'list')).toBe('no migrations\n');
    await boot('vm1');
  });

  test('lets those in who are in its group, and nobody else', async () => {
    await ok('useradd', '--groups', 'godwit', 'ann');
    await ok('useradd', 'bob');
    const guests = ['agent-send', 'guests'];
    expect(await ok('runuser', '-u', 'ann', '--', ...guests)).toContain('vm1');
    expect((await host.run('runuser', '-u', 'bob', '--', ...guests)).code).toBe(EXIT['no-daemon']);
    // Monitors of guests lie beside that socket: they are root's.
    const look = ['find', '/run/godwit', '-mindepth', '1', '-group', 'godwit', '-perm', '/070'];
    expect(await ok(...look)).toBe('/run/godwit/agent-send.sock\n');
  });

  test('an upgrade goes on with agents that run, and with their migration', async () => {
    const id = await hold('vm1');
    const before = await Promise.all(agents.map((agent) => unit(agent, 'MainPID')));
    const said = await dpkg('-i', `/tmp/${SECOND}.deb`);
    for (const agent of agents) {
      expect(said).toContain(`${agent} goes on in the version that it was started with`);
      expect(await ok(agent, '--version')).toContain(`${agent} ${SECOND} `);
    }
    expect(await Promise.all(agents.map((agent) => unit(agent, 'MainPID')))).toEqual(before);
    const kept = fs.readFileSync(host.file('/etc/godwit/agent-recv.json'), 'utf8');
    expect(kept).toContain('other-host');

    await ok('agent-send', 'cutover', id, '--force');
    expect(await ok('agent-send', 'wait', id)).toContain('completed');
  });

  test('removed, it stops the agents, leaves the guests and says what is open', async () => {
    await boot('vm2');
    open = await hold('vm2');
    // The source cannot tell its peer any more that the guest stays.
    await ok('systemctl', 'kill', '--signal=KILL', 'agent-recv');
    await ok('systemctl', 'stop', 'agent-recv');
    const said = await dpkg('-r', 'godwit');
    expect(said).toContain(`migration ${open} of guest vm2`);
    // The one that was killed may count as failed.
    for (const agent of agents)
      expect(await unit(agent, 'ActiveState')).toMatch(/^(inactive|failed)$/);
    expect(await unit('vm2', 'ActiveState')).toBe('active');
    expect(fs.existsSync(host.file(INSTALLED))).toBe(false);
    expect((await host.run('agent-send')).code).not.toBe(0);
    expect(await dpkg('-P', 'godwit')).toContain('/var/lib/godwit stays');
    expect(fs.existsSync(host.file('/var/lib/godwit/agent-send/journal'))).toBe(true);
  });

  test('installed again it finishes that, and purged it leaves nothing of its own', async () => {
    await dpkg('-i', `/tmp/${SECOND}.deb`);
    configure();
    fs.writeFileSync(host.file('/etc/godwit/ca.pem'), 'of the operator');
    await ok('systemctl', 'start', 'agent-recv', 'agent-send');
    expect((await host.run('agent-send', 'wait', open)).code).toBe(EXIT.failed);
    expect(await dpkg('-P', 'godwit')).toContain('/etc/godwit stays');
    for (const gone of [
      '/var/lib/godwit',
      '/var/cache/godwit',
      '/usr/lib/godwit',
      '/usr/share/doc/godwit',
    ])
      expect([gone, fs.existsSync(host.file(gone))]).toEqual([gone, false]);
    expect(fs.readdirSync(host.file('/etc/godwit'))).toEqual(['ca.pem']);
    expect(await unit('vm2', 'ActiveState')).toBe('active');
  });
});

/** The package, and one of a later version with the same in it. */
async function make(): Promise<void> {
  await run('npm', ['run', 'package', '--', '--quick', '--output', dir], { cwd: root });
  const [file = ''] = fs.globSync('godwit_*.deb', { cwd: dir });
  const first = path.join(dir, `${FIRST}.deb`);
  fs.renameSync(path.join(dir, file), first);
  const tree = path.join(dir, 'tree');
  await run('dpkg-deb', ['--raw-extract', first, tree]);
  for (const name of ['DEBIAN/control', 'usr/lib/godwit/package.json']) {
    const text = fs.readFileSync(path.join(tree, name), 'utf8');
    fs.writeFileSync(path.join(tree, name), text.replace(FIRST, SECOND));
  }
  await run('dpkg-deb', ['-Znone', '--build', tree, path.join(dir, `${SECOND}.deb`)]);
  fs.rmSync(tree, { recursive: true });
}

afterAll(() => fs.rmSync(dir, { recursive: true }));
