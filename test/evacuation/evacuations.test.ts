import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { GodwitError } from '../../lib/errors.ts';
import { Evacuations } from '../../lib/evacuation/evacuations.ts';
import type { Site } from '../../lib/evacuation/site.ts';
import { EvacuationStore } from '../../lib/evacuation/store.ts';
import type { EvacuationRequest } from '../../lib/evacuation/view.ts';
import type { MigrationRequest, MigrationView } from '../../lib/migration/view.ts';
import type { PastMigration } from '../../lib/report/history.ts';
import { A_PAST_MIGRATION, aView } from '../api/fake-backend.ts';

/** The queue itself, with its file, over a host whose moves end as a test says. */

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-evacuation-'));
const stores: EvacuationStore[] = [];
afterAll(async () => {
  await Promise.all(stores.map((store) => store.idle()));
  fs.rmSync(dir, { recursive: true });
});

/** A host and its ledgers, which outlive the agent that runs on it. */
class Yard {
  readonly here: Set<string>;
  readonly ledgers: PastMigration[] = [];
  readonly open = new Map<string, MigrationView>();
  readonly #watchers = new Map<string, Set<(view: MigrationView) => void>>();
  begun = 0;
  /** Otherwise moves wait for `connected`. */
  connects = true;

  constructor(names: readonly string[]) {
    this.here = new Set(names);
  }

  /** The agent that runs now; one that has died does nothing more. */
  agent(): Site {
    return {
      guests: async () =>
        [...this.here].map((name) => {
          const look = { hypervisor: 'simulated', state: 'running', memoryBytes: 2 ** 20 } as const;
          return { name, ...look };
        }),
      profile: () => undefined,
      inTheWay: async ({ guest }) => {
        if (this.here.has(guest)) return [];
        throw new GodwitError('unknown-guest', `no guest "${guest}" on this host`);
      },
      begin: async (request) => this.begin(request),
      open: (guest) => this.open.get(guest),
      past: async (guest) => this.ledgers.findLast((one) => one.guest === guest),
      watch: (id, listener) => {
        const all = this.#watchers.get(id) ?? new Set();
        this.#watchers.set(id, all.add(listener));
        const now = [...this.open.values()].find((view) => view.id === id);
        if (now !== undefined) listener(now);
        return () => all.delete(listener);
      },
      cancel: (id) => this.end(this.#guestOf(id), 'cancelled'),
      steer: () => {},
    };
  }

  begin({ guest, host, port }: MigrationRequest): MigrationView {
    expect(this.open.has(guest), `${guest} is moved once at a time`).toBe(false);
    expect(this.here.has(guest), `${guest} is here`).toBe(true);
    this.begun++;
    const id = `${this.begun}`.padStart(16, '0');
    const view = aView({
      id,
      guest,
      peer: `${host}:${port}`,
      phase: this.connects ? 'precopy' : 'connecting',
      outcome: undefined,
    });
    this.open.set(guest, view);
    return view;
  }

  /** The destination has taken it, and its rounds begin. */
  connected(guest: string): void {
    const view: MigrationView = { ...this.open.get(guest)!, phase: 'precopy' };
    this.open.set(guest, view);
    for (const listener of this.#watchers.get(view.id) ?? []) listener(view);
  }

  end(guest: string, outcome: 'completed' | 'failed' | 'cancelled', code = 'cancelled'): void {
    const view = this.open.get(guest)!;
    this.open.delete(guest);
    const { id, peer: destination } = view;
    if (outcome === 'completed') this.here.delete(guest);
    const time = new Date().toISOString();
    this.ledgers.push({ ...A_PAST_MIGRATION, id, guest, time, destination, outcome });
    const told = outcome === 'completed' ? {} : { code, message: `it is ${code}` };
    for (const listener of this.#watchers.get(id) ?? [])
      listener({ ...view, phase: 'ended', outcome, ...told });
  }

  /** Moves that have committed come through without their agent; all others are over. */
  crash(commits: (guest: string) => boolean): void {
    this.#watchers.clear();
    for (const guest of [...this.open.keys()])
      this.end(guest, commits(guest) ? 'completed' : 'failed', 'interrupted');
  }

  #guestOf(id: string): string {
    return [...this.open].find(([, view]) => view.id === id)![0];
  }
}

const REQUEST: EvacuationRequest = {
  ...{ destinations: ['b:1', 'c:1'], parallel: 2, order: 'name', by: 'root' },
  move: { policy: 'contract', limits: {}, compression: 'auto', verify: false },
};

const quiet = () => new Promise((resolve) => setImmediate(resolve));

async function agentOn(yard: Yard, stateDir: string): Promise<Evacuations> {
  const store = await EvacuationStore.open(stateDir);
  stores.push(store);
  const evacuations = new Evacuations(store, yard.agent());
  evacuations.resume();
  return evacuations;
}

/** A directory is there, where no file was. */
function placed(dir: string): boolean {
  try {
    fs.mkdirSync(dir);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    return false;
  }
}

function stateDir(): string {
  return fs.mkdtempSync(path.join(dir, 'state-'));
}

/** Until the evacuation has as many moves under way as it may. */
async function until(condition: () => boolean): Promise<void> {
  for (let looks = 0; !condition(); looks++) {
    if (looks > 5000) throw new Error('waited in vain');
    await quiet();
  }
}

test('agents that die at any moment: every guest ends at one place, and is counted once', async () => {
  const step = fc.record({
    pick: fc.nat(),
    what: fc.constantFrom('completed', 'completed', 'refused', 'crash', 'crash committed'),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 5, maxLength: 40 }),
      fc.integer({ min: 1, max: 4 }),
      async (steps, parallel) => {
        const names = ['vm1', 'vm2', 'vm3', 'vm4', 'vm5'];
        const yard = new Yard(names);
        const state = stateDir();
        let agent = await agentOn(yard, state);
        await agent.begin({ ...REQUEST, parallel });
        for (let i = 0; agent.view()!.outcome === undefined; i++) {
          await until(() => yard.open.size > 0 || agent.view()!.outcome !== undefined);
          if (yard.open.size === 0) break;
          expect(yard.open.size).toBeLessThanOrEqual(parallel);
          const { pick, what } = steps[i] ?? { pick: 0, what: 'completed' };
          const guest = [...yard.open.keys()][pick % yard.open.size]!;
          if (what === 'completed') yard.end(guest, 'completed');
          else if (what === 'refused') yard.end(guest, 'failed', 'memory-insufficient');
          else {
            await agent.stop();
            yard.crash((name) => what === 'crash committed' && name === guest);
            agent = await agentOn(yard, state);
          }
          await quiet();
        }
        const { leaving } = agent.view()!;
        expect(leaving.map(({ name }) => name)).toEqual(names);
        for (const { name, end } of leaving)
          expect([name, end?.outcome]).toEqual([
            name,
            yard.here.has(name) ? 'failed' : 'completed',
          ]);
        const moved = yard.ledgers.filter(({ outcome }) => outcome === 'completed');
        expect(new Set(moved.map(({ guest }) => guest)).size).toBe(moved.length);
        await agent.stop();
      },
    ),
    { numRuns: 25 },
  );
});

test('a second one is refused while one is open, also by the next run of the agent', async () => {
  const yard = new Yard(['vm1']);
  const state = stateDir();
  const agent = await agentOn(yard, state);
  await agent.begin(REQUEST);
  await expect(agent.begin(REQUEST)).rejects.toMatchObject({ code: 'evacuation-open' });
  await agent.stop();
  const next = await agentOn(yard, state);
  await expect(next.begin(REQUEST)).rejects.toMatchObject({ code: 'evacuation-open' });
  await until(() => next.view()!.moving.length > 0);
  yard.end('vm1', 'completed');
  await until(() => next.view()!.outcome === 'completed');
  await expect(next.begin(REQUEST)).rejects.toThrow('no guest');
  await next.stop();
});

test('a guest that somebody else moves is waited for; what that comes to is its outcome', async () => {
  const yard = new Yard(['vm1', 'vm2']);
  const agent = await agentOn(yard, stateDir());
  for (const guest of ['vm1', 'vm2']) yard.begin({ guest, host: 'd', port: 1, ...REQUEST.move });
  await agent.begin(REQUEST);
  expect(agent.view()!.leaving[0]!.waitsFor).toContain('which the evacuation has not begun');
  yard.end('vm1', 'completed');
  yard.end('vm2', 'cancelled');
  await until(() => yard.open.has('vm2'));
  expect(yard.open.get('vm2')!.peer).toBe('b:1');
  yard.end('vm2', 'completed');
  await until(() => agent.view()!.outcome !== undefined);
  const went = agent.view()!.leaving.map(({ destination }) => destination);
  expect([agent.view()!.outcome, went]).toEqual(['completed', ['d:1', 'b:1']]);
  await agent.stop();
});

test('cancelled, it begins nothing more, and what others move goes on', async () => {
  const yard = new Yard(['vm1', 'vm2', 'vm3']);
  const agent = await agentOn(yard, stateDir());
  yard.begin({ guest: 'vm1', host: 'd', port: 1, ...REQUEST.move });
  await agent.begin(REQUEST);
  await until(() => yard.open.size === 2);
  await agent.cancel();
  await until(() => agent.view()!.outcome !== undefined);
  expect(agent.view()!.leaving.map(({ end }) => end?.outcome)).toEqual([
    ...['cancelled', 'cancelled', 'cancelled'],
  ]);
  expect([...yard.open.keys()]).toEqual(['vm1']);
  await expect(agent.cancel()).rejects.toMatchObject({ code: 'too-late' });
  await agent.stop();
});

test('a file that is damaged or half written is no evacuation, and a new one can begin', async () => {
  const yard = new Yard(['vm1']);
  const state = stateDir();
  const first = await agentOn(yard, state);
  await first.begin(REQUEST);
  await first.stop();
  const file = path.join(state, 'evacuation.json');
  const whole = fs.readFileSync(file, 'utf8');
  for (const text of ['', 'null', '[]', '{"id":"e"}', whole.slice(0, whole.length / 2)]) {
    fs.writeFileSync(file, text);
    expect((await agentOn(yard, state)).view()).toBeUndefined();
  }
  fs.writeFileSync(`${file}.new`, whole.slice(0, 20)); // of a write that a crash has cut short
  fs.writeFileSync(file, whole);
  yard.crash(() => false);
  const next = await agentOn(yard, state);
  expect(next.view()!.leaving[0]!.name).toBe('vm1');
  await next.stop();
});

test('what cannot be kept is not begun', async () => {
  const yard = new Yard(['vm1']);
  const state = stateDir();
  const agent = await agentOn(yard, state);
  fs.mkdirSync(path.join(state, 'evacuation.json.new'));
  await expect(agent.begin(REQUEST)).rejects.toMatchObject({ code: 'journal-failed' });
  expect([agent.view(), yard.begun]).toEqual([undefined, 0]);
});

test('a disk that is full in the middle stops no guest, and the next run finds out what has come', async () => {
  const yard = new Yard(['vm1', 'vm2', 'vm3']);
  const state = stateDir();
  const agent = await agentOn(yard, state);
  await agent.begin({ ...REQUEST, parallel: 1 });
  await until(() => yard.open.has('vm1'));
  const inTheWay = path.join(state, 'evacuation.json.new');
  await until(() => placed(inTheWay)); // once what it writes meanwhile is written
  yard.end('vm1', 'completed');
  await until(() => yard.open.has('vm2'));
  yard.end('vm2', 'completed');
  await until(() => yard.open.has('vm3'));
  await agent.stop();
  yard.crash(() => false);
  const kept = JSON.parse(fs.readFileSync(path.join(state, 'evacuation.json'), 'utf8'));
  expect(kept.leaving.map(({ end }: { end?: object }) => end)).toEqual([
    undefined,
    undefined,
    undefined,
  ]);
  fs.rmdirSync(inTheWay);
  const next = await agentOn(yard, state);
  await until(() => yard.open.has('vm3'));
  yard.end('vm3', 'completed');
  await until(() => next.view()!.outcome !== undefined);
  expect(next.view()!.leaving.map(({ end }) => end?.outcome)).toEqual([
    ...['completed', 'completed', 'completed'],
  ]);
  expect(yard.begun).toBe(4); // the one that the crash has ended, twice
  await next.stop();
});

test('two guests begin at a time, however many may be moved at once', async () => {
  const names = ['vm1', 'vm2', 'vm3', 'vm4', 'vm5'];
  const yard = new Yard(names);
  yard.connects = false;
  const agent = await agentOn(yard, stateDir());
  await agent.begin({ ...REQUEST, parallel: 5 });
  await until(() => yard.open.size === 2);
  for (let looks = 0; looks < 50; looks++) await quiet();
  expect([...yard.open.keys()]).toEqual(['vm1', 'vm2']);
  yard.connected('vm2');
  await until(() => yard.open.size === 3);
  yard.end('vm1', 'completed'); // however it ends, its place is free
  await until(() => yard.open.has('vm4'));
  for (const name of ['vm3', 'vm4']) yard.connected(name);
  await until(() => yard.open.has('vm5'));
  for (const name of names.slice(1)) yard.end(name, 'completed');
  await until(() => agent.view()!.outcome === 'completed');
  await agent.stop();
});
