import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { EvacuationPlan, EvacuationView } from '../../lib/evacuation/view.ts';
import { EXIT } from '../../lib/exit.ts';
import { until } from './daemon.ts';
import { noSmallDisks, SmallDisk } from './disks.ts';
import { Host } from './host.ts';

/**
 * A host whose guests leave it for two others, of which the first has room for two of six. All of them
 * are moved in one go, by an agent that is killed in the middle.
 */

const SMALL = '32MiB';
/** For two guests, and for what passes through. */
const ROOM = '80m';
const GUESTS = ['vm1', 'vm2', 'vm3', 'vm4', 'vm5', 'vm6'];

const why = noSmallDisks();

describe.skipIf(why !== undefined)('a host is evacuated', () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-evacuate-'));
  let disk: SmallDisk;
  let a: Host;
  let b: Host;
  let c: Host;

  function host(name: string, ramDir: string): Host {
    const at = (...names: string[]) => path.join(dir, name, ...names);
    fs.mkdirSync(at(), { mode: 0o700 });
    return new Host(name, {
      ...{ dir: at(), guestDir: at('guests'), ramDir, bootRamDir: ramDir, hostDir: at('host') },
      sockets: { send: at('send.sock'), recv: at('recv.sock') },
      stateDirs: { send: at('send'), recv: at('recv') },
    });
  }

  beforeAll(async () => {
    disk = new SmallDisk(ROOM);
    a = host('A', fs.mkdtempSync('/dev/shm/godwit-evacuate-'));
    b = host('B', disk.dir);
    c = host('C', fs.mkdtempSync('/dev/shm/godwit-evacuate-'));
    await Promise.all([a.startSend(), b.startRecv(), c.startRecv()]);
    await Promise.all(GUESTS.map((name) => boot(name)));
  });

  afterAll(async () => {
    const hosts = [a, b, c];
    await Promise.all(hosts.map((one) => one.endAgents()));
    for (const one of hosts) await one.endGuests();
    for (const { places } of [a, c]) fs.rmSync(places.ramDir, { recursive: true });
    disk.remove();
    fs.rmSync(dir, { recursive: true });
  });

  const boot = (name: string, options = {}) =>
    a.boot({ name, memory: SMALL, workload: 'hot-set', workingSet: '1MiB', rate: 100, ...options });
  const targets = () => `${b.target},${c.target}`;
  /** A busy machine has other limits. */
  const patient = ['--max-suspend-time', '10s', '--no-compression'];
  const now = async () => {
    const answer = await a
      .client('send')
      .request<{ evacuation: EvacuationView }>('GET', '/evacuation');
    return answer.evacuation;
  };
  const movedBy = ({ leaving }: EvacuationView) =>
    leaving.filter(({ end }) => end?.outcome === 'completed').length;

  /** Exactly one host has a copy of the guest, which runs, whole. */
  async function placeOf(name: string): Promise<Host> {
    const statuses = await Promise.all([a, b, c].map((one) => one.status(name)));
    const here = [a, b, c].filter((_, i) => statuses[i] !== undefined);
    assert.equal(here.length, 1, `${name} at A, B, C: ${JSON.stringify(statuses)}`);
    await here[0]!.mustRun(name);
    return here[0]!;
  }

  test('asked only, it moves nothing', async () => {
    const { code, stdout, stderr } = await a.run(['evacuate', targets(), '--dry-run', '--json']);
    expect([code, stderr]).toEqual([EXIT.completed, '']);
    const { leaving } = JSON.parse(stdout) as EvacuationPlan;
    expect(leaving.map(({ name, destination }) => [name, destination])).toEqual(
      GUESTS.map((name) => [name, b.target]), // each as if it were alone
    );
    expect([await a.list('send'), await b.list('recv'), await now()]).toEqual([[], [], undefined]);
    for (const name of GUESTS) expect(await a.status(name)).toBe('running');
  });

  test('its agent is killed in the middle: it goes on, and every guest is at one place', async () => {
    const slow = ['--parallel', '3', '--bandwidth', '30MB/s', '--order', 'name', ...patient];
    const begun = await a.run(['evacuate', targets(), ...slow, '--detach']);
    expect(begun.code, begun.stderr).toBe(0);
    const again = await a.run(['evacuate', targets()]);
    expect([again.code, again.stderr]).toEqual([
      EXIT.failed,
      expect.stringContaining('(evacuation-open)'),
    ]);
    await until(async () => movedBy(await now()) > 0, 'a guest has moved');
    await until(async () => {
      const running = (await a.list('send')).filter(({ phase }) => phase === 'precopy');
      const sum = running.reduce((all, { bandwidth = 0 }) => all + bandwidth, 0);
      expect(sum).toBeLessThanOrEqual(30e6 * 1.001);
      return running.length > 1 && running.every(({ round }) => round > 0);
    }, 'guests are on their way');
    await a.send.end('SIGKILL');
    await a.startSend();
    const { code, stdout, stderr } = await a.run(['evacuate']);
    expect([code, stderr], stdout).toEqual([EXIT.completed, '']);
    expect(stdout).toContain('6 of 6 guests moved');
    const places = await Promise.all(GUESTS.map(placeOf));
    const at = (where: Host) => places.filter((one) => one === where).length;
    expect(at(a)).toBe(0);
    expect([1, 2]).toContain(at(b)); // a copy that the killed agent had begun there takes room for a while
    const { leaving, id } = await now();
    expect(id).toBe(begun.stdout.trim());
    for (const [i, { name, destination, end, refused }] of leaving.entries()) {
      expect([name, destination, end?.outcome]).toEqual([name, places[i]!.target, 'completed']);
      expect(refused.map((one) => one.destination)).not.toContain(destination);
    }
    const full = leaving.flatMap(({ refused }) => refused);
    expect(full.length).toBeGreaterThan(0);
    for (const one of full)
      expect(one).toMatchObject({ destination: b.target, code: 'memory-insufficient' });
    for (const name of GUESTS) await a.mustBeGone(name);
    const report = await a.run(['report', '--evacuation', '--output', '-']);
    for (const name of GUESTS) expect(report.stdout).toContain(`<td>${name}</td>`);
    expect((await a.run(['evacuate', targets()])).stderr).toContain('no guest');
  });

  test('a guest that was given up goes with the limit that would have been enough', async () => {
    await boot('vm7', { workingSet: '24MiB', rate: 'full' });
    // Far below what a suspension takes: the policy need not wait whether it gets better.
    const tight = ['--bandwidth', '60MB/s', '--no-compression', '--max-suspend-time', '20ms'];
    const tried = await a.run(['evacuate', c.target, ...tight, '--retry-up-to', '1h', '--json']);
    expect(tried.code, tried.stdout).toBe(EXIT.completed);
    const { leaving } = JSON.parse(tried.stdout.trim().split('\n').at(-1)!) as EvacuationView;
    const { raisedMs, tries, end } = leaving[0]!;
    expect(raisedMs.length).toBeGreaterThan(0);
    expect([tries, end?.limitMs]).toEqual([1 + raisedMs.length, raisedMs.at(-1)]);
    expect(await placeOf('vm7')).toBe(c);
  });

  test('a guest that somebody moves is waited for; cancelled, the others stay', async () => {
    for (const name of ['vm8', 'vm9']) await boot(name);
    const foreign = await a.begin(c, ['--hold'], 'vm8');
    const begun = await a.run(['evacuate', c.target, '--detach', '--hold']);
    expect(begun.code, begun.stderr).toBe(0);
    await until(async () => {
      const of = (name: string) => leaving.find((guest) => guest.name === name)!;
      const { leaving } = await now();
      return (of('vm8').waitsFor ?? '').includes(foreign) && of('vm9').migration !== undefined;
    }, 'one is waited for, and the other is on its way');
    const ended = await a.run(['evacuate', '--cancel']);
    expect(ended.code, ended.stdout).toBe(EXIT.cancelled);
    expect(await placeOf('vm9')).toBe(a);
    expect((await a.view(foreign)).outcome).toBeUndefined();
    await a.tell(foreign, 'cancel');
    await a.ended(foreign);
    expect(await placeOf('vm8')).toBe(a);
  });
});
