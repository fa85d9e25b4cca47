import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { CheckView } from '../../lib/migration/check/view.ts';
import type { GuestProfile } from '../../lib/precopy/profile.ts';
import { connectTo } from '../../lib/wire/connect.ts';
import { Connection } from '../../lib/wire/connection.ts';
import { dialControl } from '../../lib/wire/dial.ts';
import { chooseWelcome, helloMessage, ownTerms } from '../../lib/wire/handshake.ts';
import type { Check, CheckAnswer } from '../../lib/wire/messages.ts';
import { run } from '../cli/run.ts';
import { fakeReceiver } from './fake-peers.ts';
import { Hosts, until } from './hosts.ts';

/** So long that no busy machine makes a forecast worse than it. */
const PATIENT = ['--max-suspend-time', '60s'];

let hosts: Hosts;

const check = async (target = hosts.target, ...options: string[]) => {
  const result = await hosts.run(['check', 'vm1', target, '--json', ...options]);
  expect(result.stderr).toBe('');
  return { exit: result.code, ...(JSON.parse(result.stdout) as CheckView) };
};
/** Verdicts and codes by side and what they are about. */
const verdicts = ({ findings }: CheckView) =>
  Object.fromEntries(
    findings.map(({ side, about, verdict, code }) => [`${side} ${about}`, code || verdict]),
  );

/** A guest that writes so many pages a second, evenly over a hot set. */
function keepProfile(perSecond: number, hotPages: number): void {
  const workingSet = [100, 1000, 10_000].map((windowMs) => {
    const pages = Math.round(hotPages * (1 - Math.exp((-perSecond * windowMs) / 1000 / hotPages)));
    return { windowMs, pages, high: pages };
  });
  const taken = { guest: 'vm1', time: '2026-01-02T03:04:05.000Z', ms: 60_000, totalPages: 16_384 };
  const profile: GuestProfile = { ...taken, workingSet, zeroShare: 0.2, compressedShare: 0.5 };
  const dir = path.join(hosts.stateDirOf('source'), 'profiles');
  fs.mkdirSync(dir, { recursive: true });
  fs.writeFileSync(path.join(dir, 'vm1.json'), JSON.stringify(profile));
}

/** Every file of both hosts, and what is in those that decide anything; a check remembers its forecast. */
function everything(): Record<string, string> {
  const dirs = [hosts.dir, hosts.ramDir, hosts.source.places.ramDir];
  const files = dirs.flatMap((dir) =>
    fs.readdirSync(dir, { recursive: true, encoding: 'utf8' }).map((file) => path.join(dir, file)),
  );
  const small = (file: string) => fs.statSync(file).isFile() && fs.statSync(file).size < 1 << 20;
  return Object.fromEntries(
    files
      .filter((file) => path.basename(file) !== 'experiences.ndjson')
      .map((file) => [file, small(file) ? fs.readFileSync(file, 'latin1') : '']),
  );
}

describe('a check', () => {
  beforeAll(async () => {
    hosts = await Hosts.start();
    await hosts.boot({ workload: 'hot-set', rate: 500 });
  });
  afterEach(async () => {
    hosts.mustLive();
    await hosts.mustRunAt('source');
  });
  afterAll(() => hosts.end());

  test('of a guest that nobody has looked at finds nothing wrong, and leaves nothing', async () => {
    const before = everything();
    const view = await check(hosts.target, ...PATIENT);
    expect(view).toMatchObject({ exit: 8, expected: 'unknown', forecast: { verdict: 'unknown' } });
    expect(verdicts(view)).toEqual({
      ...{ 'source record': 'ok', 'source guest': 'ok', 'source journal': 'ok' },
      ...{ 'source hooks': 'ok', 'source profile': 'unknown' },
      ...{ 'destination peer': 'ok', 'destination tls': 'ok', 'destination version': 'ok' },
      ...{ 'destination migrations': 'ok', 'destination record': 'ok' },
      ...{
        'destination memory': 'ok',
        'destination hypervisor': 'ok',
        'destination machine': 'ok',
      },
      ...{ 'destination name': 'ok', 'destination ram-files': 'ok', 'destination hooks': 'ok' },
      ...{ 'destination journal': 'ok', 'destination data-ports': 'ok' },
      ...{ 'destination lanes': 'ok', 'destination link': 'ok' },
    });
    expect(view.way!.bytes).toBeLessThanOrEqual(64 << 20);
    expect(view.forecast!.passMs).toBeGreaterThan(0);
    expect(everything()).toEqual(before);
    expect(await hosts.source.list('send')).toEqual([]);
    expect(await hosts.destination.list('recv')).toEqual([]);
  });

  test('keeps to --bandwidth and to --lanes', async () => {
    const view = await check(hosts.target, '--bandwidth', '4MB/s', '--lanes', '5');
    expect(view.way!.lanes).toBe(5);
    expect(view.way!.rate).toBeLessThanOrEqual(4e6);
    expect(view.way!.bytes).toBeLessThan(32 << 20); // a window of frames beyond it is under way
  });

  test('of a guest with a profile forecasts the move', async () => {
    keepProfile(500, 1000);
    const limit = [...PATIENT, '--bandwidth', '50MB/s'];
    expect(await check(hosts.target, ...limit)).toMatchObject({ exit: 0, expected: 'yes' });
    const { code, stdout } = await hosts.run(['check', 'vm1', hosts.target, ...limit]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^ok {9}destination {2}name: no guest in .* is called vm1$/m);
    expect(stdout).toMatch(/forecast: suspension .* to .*, whole move .* in \d+.* rounds?\n/);
    expect(stdout).toMatch(
      /fits --max-suspend-time 60000ms: yes; smallest --max-suspend-time that would do: \d+ms/,
    );
  });

  test('asks a guest how much device state it has', async () => {
    const cap = ['--suspend-bandwidth', '50MB/s', ...PATIENT];
    await hosts.boot({ name: 'vm9', deviceState: '64MiB' });
    const { stdout } = await hosts.run(['check', 'vm9', hosts.target, ...cap, '--json']);
    await hosts.quitGuest('source', 'vm9');
    // 64 MiB take 1.3 s at 50 MB/s, and may take half of what is said.
    expect((JSON.parse(stdout) as CheckView).forecast!.suspensionMs.low).toBeGreaterThan(600);
    expect((await check(hosts.target, ...cap)).forecast!.suspensionMs.low).toBeLessThan(600);
  });

  test('says why a guest would not converge, and what would do', async () => {
    keepProfile(20_000, 8000);
    const view = await check(hosts.target, '--bandwidth', '2MB/s');
    expect(view).toMatchObject({ exit: 3, expected: 'no', forecast: { verdict: 'no' } });
    expect(view.forecast!.reason).toMatch(/300 ms/);
    expect(view.forecast!.enoughMs).toBeGreaterThan(300);
  });

  test('takes a broken profile for none, and forecasts nothing under a policy of its own', async () => {
    const file = path.join(hosts.stateDirOf('source'), 'profiles', 'vm1.json');
    fs.writeFileSync(file, '{"guest": "vm1", "workingSet": [{"windowMs": "long"}]}');
    const view = await check(hosts.target, ...PATIENT);
    expect(view.exit).toBe(8);
    expect(view.findings.find(({ about }) => about === 'profile')!.text).toMatch(/is no profile/);
    keepProfile(500, 1000);
    const policy = path.join(hosts.dir, 'policy.ts');
    const own = ['--policy', 'custom', '--policy-module', policy];
    const custom = await check(hosts.target, ...PATIENT, ...own);
    expect(custom).toMatchObject({ exit: 8, forecast: { verdict: 'unknown' } });
  });

  test('of an unknown guest still reaches the destination', async () => {
    const { code, stdout } = await hosts.run(['check', 'nobody', hosts.target]);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^no {9}source {7}guest: .*\(unknown-guest\)/m);
    expect(stdout).toMatch(/^ok {9}destination {2}peer: /m);
  });

  test('of a destination that nobody serves', async () => {
    const view = await check('127.0.0.1:1');
    expect(view).toMatchObject({ exit: 1, expected: 'refused' });
    expect(view.forecast).toBeUndefined();
    expect(verdicts(view)).toMatchObject({ 'destination peer': 'connect-refused' });
    const { stdout } = await hosts.run(['check', 'vm1', '127.0.0.1:1']);
    expect(stdout).toMatch(/\(connect-refused\): start agent-recv there/);
  });

  test('of a name that is taken there', async () => {
    await hosts.destination.boot();
    const view = await check();
    expect(view).toMatchObject({ exit: 1, expected: 'refused' });
    expect(verdicts(view)).toMatchObject({ 'destination name': 'guest-exists' });
    expect(view.way, 'the way is measured all the same').toBeDefined();
    expect(await hosts.migrate()).toMatchObject({ exit: 1, code: 'guest-exists' });
    await hosts.quitGuest('destination');
  });

  test('of an older destination does not know, and does not fail', async () => {
    const older = await fakeReceiver((socket) => {
      const control = new Connection(socket, {
        ...{ side: 'receiver', connection: 'control' },
        onMessage: ({ kind, message }) => {
          if (kind !== 'Hello') throw new Error(`it was sent ${kind}`);
          const terms = ownTerms('godwit 0.1', ['zstd'], message.limits);
          control.send('Welcome', chooseWelcome(message, terms));
        },
        onClose: () => {},
      });
    });
    const view = await check(older.target);
    older.close();
    expect(view).toMatchObject({ exit: 8, expected: 'unknown' });
    expect(view.forecast).toBeUndefined();
    expect(verdicts(view)).toMatchObject({
      'destination version': 'ok',
      'destination answer': 'unknown',
    });
  });

  test.each([
    ['that is too long', { about: 'name', verdict: 'ok', code: '', text: 'x'.repeat(501) }],
    ['without a verdict', { about: 'name', verdict: 'maybe', code: '', text: '' }],
    ['that takes over the terminal', { about: '\u001b[2J', verdict: 'ok', code: '', text: '' }],
  ])('of a destination with a finding %s', async (_, finding) => {
    const liar = await fakeReceiver((socket) => {
      const control = new Connection(socket, {
        ...{ side: 'receiver', connection: 'control' },
        onMessage: ({ kind, message }) => {
          if (kind === 'Hello')
            return control.send('Welcome', {
              ...{ version: 3, agent: 'liar', features: ['check'], limits: message.limits },
            });
          const answer = { verifyRate: 0, journalMs: 0, dataPorts: [], secret: new Uint8Array() };
          return control.send('CheckAnswer', { ...answer, findings: [finding] });
        },
        onClose: () => {},
      });
    });
    const view = await check(liar.target);
    liar.close();
    expect(view).toMatchObject({ exit: 8, expected: 'unknown' });
    expect(verdicts(view)).toMatchObject({ 'destination answer': 'bad-message' });
  });

  test('and then a move as it was forecast', async () => {
    expect(await check(hosts.target, ...PATIENT)).toMatchObject({ exit: 0 });
    expect(await hosts.migrate(...PATIENT)).toMatchObject({ exit: 0 });
    await hosts.mustRunAt('destination');
    const { code, stdout } = await hosts.run(['check', 'vm1', hosts.target]);
    expect(code, 'it is gone from here').toBe(1);
    expect(stdout).toMatch(/\(unknown-guest\)/);
    await hosts.destination.quitGuest();
    await hosts.boot();
  });
});

describe('a check of a destination', () => {
  let dir: string;
  beforeAll(() => {
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-check-'));
  });
  afterEach(() => hosts.end());
  afterAll(() => fs.rmSync(dir, { recursive: true }));

  test('over TLS, by a name of its certificate and by another one', async () => {
    const made = await run('agent-recv', 'keygen', 'localhost', 'hosta', '--dir', dir);
    expect(made.code, made.stderr).toBe(0);
    const file = (name: string) => path.join(dir, name);
    const shows = (name: string) => [
      ...['--tls-cert', file(`${name}.pem`), '--tls-key', file(`${name}-key.pem`)],
      ...['--tls-ca', file('ca.pem')],
    ];
    hosts = await Hosts.start({
      send: shows('hosta'),
      recv: [...shows('localhost'), '--allow-peer', 'hosta'],
    });
    await hosts.boot();
    const good = await check(`localhost:${hosts.port}`);
    expect(good.findings.filter(({ verdict }) => verdict === 'no')).toEqual([]);
    expect(good.way!.rate).toBeGreaterThan(0);
    const wrong = await check(`127.0.0.1:${hosts.port}`);
    expect(wrong).toMatchObject({ exit: 1, expected: 'refused' });
    expect(verdicts(wrong)).toMatchObject({
      'destination peer': 'ok',
      'destination tls': 'tls-name-mismatch',
    });
  });

  test.skipIf(process.getuid?.() !== 0)('without room for the guest', async () => {
    const ramDir = fs.mkdtempSync(path.join(dir, 'small-'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=80m', 'tmpfs', ramDir]);
    try {
      hosts = await Hosts.start({ ramDir });
      await hosts.boot({ memory: '128MiB' });
      const view = await check();
      expect(view).toMatchObject({ exit: 1, expected: 'refused' });
      expect(verdicts(view)).toMatchObject({
        'destination memory': 'ok',
        'destination ram-files': 'memory-insufficient',
      });
      expect(await hosts.migrate()).toMatchObject({ exit: 1, code: 'memory-insufficient' });
    } finally {
      execFileSync('umount', ['-l', ramDir]);
    }
  });

  test('whose data ports are taken', async () => {
    const taken = await fakeReceiver(() => {});
    const port = taken.target.split(':')[1]!;
    hosts = await Hosts.start({ recv: ['--data-ports', `${port}-${port}`] });
    await hosts.boot();
    const view = await check();
    taken.close();
    expect(view).toMatchObject({ exit: 1, expected: 'refused' });
    expect(view.way).toBeUndefined();
    expect(verdicts(view)).toMatchObject({ 'destination data-ports': 'listen-failed' });
  });
});

describe('what a destination bears of a check', () => {
  const NO_TLS = { credentials: undefined, insecure: false };
  const ID = '00112233445566ff';
  const GOOD: Check = {
    ...{ id: ID, guest: 'vm1', hypervisor: 'simulated', machine: 'godwit-sim-2,vcpus=1' },
    ...{ memory: 64 << 20, lanes: 1, verify: false, domain: '' },
  };
  beforeAll(async () => {
    hosts = await Hosts.start();
    await hosts.boot();
  });
  afterEach(() => hosts.mustLive());
  afterAll(async () => {
    // What was asked too often is forgiven in time.
    await until(
      async () => (await check(hosts.target, ...PATIENT)).way !== undefined,
      'a good check is answered',
    );
    await hosts.end();
  });

  /** A sender that has said Check; `end` is the code with which it was ended. */
  async function ask(over: Partial<Check> = {}) {
    const times = { peerTimeoutMs: 20_000, connectTimeoutMs: 20_000 };
    const to = { host: '127.0.0.1', port: hosts.port, security: NO_TLS, lanes: 1, ...times };
    const { control } = await dialControl(to);
    const answer = Promise.withResolvers<CheckAnswer>();
    const end = Promise.withResolvers<string>();
    answer.promise.catch(() => {});
    control.serve({
      onMessage: ({ message }) => answer.resolve(message as CheckAnswer),
      onClose: (error) => {
        answer.reject(error);
        end.resolve(error?.code ?? 'closed');
      },
    });
    control.send('Check', { ...GOOD, ...over });
    return { control, answer: answer.promise, end: end.promise };
  }

  /** A data connection to the first port of an answer. */
  async function openLane(dataPorts: readonly number[], secret: Uint8Array) {
    const end = Promise.withResolvers<string>();
    const ready = Promise.withResolvers<void>();
    ready.promise.catch(() => {});
    const lane = await connectTo(
      { host: '127.0.0.1', port: dataPorts[0]!, timeoutMs: 20_000, security: NO_TLS },
      {
        ...{ side: 'sender', connection: 'data' },
        onMessage: () => ready.resolve(),
        onClose: (error) => {
          end.resolve(error?.code ?? 'closed');
          ready.reject(error);
        },
      },
    );
    lane.send('LaneOpen', { migration: ID, lane: 0, secret, received: 0 });
    return { lane, ready: ready.promise, end: end.promise };
  }

  /** Until it is ended, or so many are sent. */
  async function send(lane: Connection, payload: Buffer, frames: number): Promise<void> {
    for (let i = 0; i < frames && lane.open; i++) {
      lane.send('Ballast', {}, [payload]);
      await lane.ready().catch(() => {});
    }
  }

  test.each([
    ['bytes', 64 << 10, (64 << 20) / (64 << 10) + 1],
    ['empty frames', 0, 2049],
  ])('no more ballast than its bound: %s', async (_, bytes, frames) => {
    const asked = await ask();
    const { dataPorts, secret } = await asked.answer;
    const { lane, ready } = await openLane(dataPorts, Uint8Array.from(secret));
    await ready;
    await send(lane, Buffer.alloc(bytes), frames);
    expect(await asked.end).toBe('too-many');
    // Its port has gone with it.
    await expect(openLane(dataPorts, secret)).rejects.toMatchObject({ code: 'connect-refused' });
  });

  test('nobody on its ports who does not know the secret, and no pages', async () => {
    const asked = await ask();
    const { dataPorts, secret } = await asked.answer;
    expect(await (await openLane(dataPorts, new Uint8Array(16))).end).toBe('lane-refused');
    const { lane, ready, end } = await openLane(dataPorts, Uint8Array.from(secret));
    await ready;
    lane.sendBody('PageBatch', Buffer.alloc(0), []);
    expect(await end).toMatch(/^bad-(kind|message)$/);
    asked.control.close();
    expect(await asked.end).toBe('closed');
  });

  test.each([
    ['an id that is none', { id: 'x' }],
    ['a name that leads out of a directory', { guest: '../vm1' }],
    ['no lane', { lanes: 0 }],
    ['more lanes than were agreed', { lanes: 2 }],
    ['no memory', { memory: 0 }],
  ])('none with %s', async (_, over) => {
    expect(await (await ask(over)).end).toBe('bad-message');
  });

  test('none that was not agreed', async () => {
    const terms = ownTerms('godwit 0.1', ['zstd'], { lanes: 1, batchPayload: 1 << 20, window: 1 });
    const end = Promise.withResolvers<string>();
    const control = await connectTo(
      { host: '127.0.0.1', port: hosts.port, timeoutMs: 20_000, security: NO_TLS },
      {
        ...{ side: 'sender', connection: 'control' },
        onMessage: () => control.send('Check', GOOD),
        onClose: (error) => end.resolve(error?.code ?? 'closed'),
      },
    );
    control.send('Hello', helloMessage(terms));
    expect(await end.promise).toBe('bad-message');
  });

  test('two at once, and each for a while only', async () => {
    const two = [await ask(), await ask()];
    await Promise.all(two.map(({ answer }) => answer));
    expect(await (await ask()).end).toBe('too-many');
    two[0]!.control.close();
    expect(await two[1]!.end).toBe('too-late');
  });

  test('few in a row', async () => {
    let ended = '';
    for (let i = 0; i < 60 && ended !== 'too-many'; i++) {
      const { control, answer, end } = await ask();
      ended = await Promise.race([answer.then(() => 'answered'), end]);
      control.close();
    }
    expect(ended).toBe('too-many');
  });
});
