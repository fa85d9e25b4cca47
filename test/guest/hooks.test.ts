import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { GodwitError } from '../../lib/errors.ts';
import { runHook } from '../../lib/guest/hooks.ts';
import { identify } from '../../lib/guest/process-identity.ts';

const CONTEXT = {
  ...{ guest: 'vm1', migration: 'm-7', peer: 'hostb:4600' },
  side: 'destination' as const,
};

let dir: string;
beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-hooks-'));
});
afterEach(() => fs.rmSync(dir, { recursive: true }));

const run = (command: readonly string[], limitMs = 60_000) =>
  runHook('preSuspend', { command, limitMs }, CONTEXT);

/** A script of a shell, which is the program here. */
const sh = (script: string, limitMs?: number) => run(['/bin/sh', '-c', script, 'sh', dir], limitMs);

async function refusal(hook: Promise<void>): Promise<string> {
  const error = await hook.then(
    () => undefined,
    (thrown: GodwitError) => thrown,
  );
  expect(error).toBeInstanceOf(GodwitError);
  expect(error).toMatchObject({ code: 'hook-failed' });
  expect(error!.message).not.toMatch(/\p{Cc}/u);
  return error!.message;
}

const read = (name: string) => fs.readFileSync(path.join(dir, name), 'utf8');

describe('a hook', () => {
  test('knows what it is about, and what the agent knows', async () => {
    process.env.GODWIT_TEST_HOOK = 'inherited';
    try {
      await sh('env > "$1/env"; pwd > "$1/pwd"; cat > "$1/stdin"');
    } finally {
      delete process.env.GODWIT_TEST_HOOK;
    }
    expect(
      read('env')
        .split('\n')
        .filter((line) => line.startsWith('GODWIT'))
        .sort(),
    ).toEqual([
      'GODWIT_GUEST=vm1',
      'GODWIT_MIGRATION=m-7',
      'GODWIT_PEER=hostb:4600',
      'GODWIT_SIDE=destination',
      'GODWIT_TEST_HOOK=inherited',
    ]);
    expect(read('pwd')).toBe('/\n');
    expect(read('stdin')).toBe('');
  });

  test('gets its arguments as they are, without a shell', async () => {
    const words = ['$HOME', '`id`', '*', 'a b', '', '; exit 1'];
    await run(['/bin/sh', '-c', 'printf "%s\\n" "$@" > "$0"', path.join(dir, 'out'), ...words]);
    expect(read('out')).toBe(`${words.join('\n')}\n`);
  });

  test('that succeeds may say what it likes', async () => {
    await sh('head -c 1000000 /dev/zero | tee /dev/stderr; echo fine > /dev/stderr');
    const message = await refusal(sh('echo first >&2; echo second > /dev/stderr; exit 1'));
    expect(message).toContain('exited with 1: second');
  });

  test('fails by its exit code, with the last line that it says', async () => {
    const message = await refusal(sh('echo first >&2; echo "no such network  " >&2; exit 3'));
    expect(message).toBe('hook preSuspend of guest vm1 exited with 3: no such network');
    expect(await refusal(sh('exit 1'))).toBe('hook preSuspend of guest vm1 exited with 1');
    expect(await refusal(run(['/bin/false']))).toContain('exited with 1');
  });

  test('fails with its last line even after many, bounded and fit to be shown', async () => {
    const noisy = await refusal(
      sh('seq 1 200000 >&2; printf "\\033[31mred\\007\\r\\n\\n" >&2; exit 1'),
    );
    expect(noisy).toBe('hook preSuspend of guest vm1 exited with 1: red');
    const long = await refusal(sh('head -c 100000 /dev/zero | tr "\\0" x >&2; exit 1'));
    expect(long.length).toBeLessThan(1000);
  });

  test('fails when a signal ends it', async () => {
    const message = await refusal(sh('echo going >&2; kill -TERM $$'));
    expect(message).toBe('hook preSuspend of guest vm1 was ended by SIGTERM: going');
  });

  test('is killed at its limit, and its children with it', async () => {
    const script = 'sleep 1000 & echo $! > "$1/child"; echo $$ > "$1/self"; echo stuck >&2; wait';
    const message = await refusal(sh(script, 2_000));
    expect(message).toBe(
      'hook preSuspend of guest vm1 did not end within 2.00 s and was killed: stuck',
    );
    const pids = ['child', 'self'].map((name) => Number(read(name)));
    expect(pids.every((pid) => pid > 1)).toBe(true);
    while (pids.some((pid) => identify(pid) !== undefined)) await sleep(5);
  });

  test('that leaves something running with its stderr is over when it is over', async () => {
    const left = 'sleep 1000 & echo $! > "$1/child"; echo left it >&2;';
    try {
      await sh(`${left} exit 0`);
      process.kill(Number(read('child')));
      expect(await refusal(sh(`${left} exit 4`))).toContain('exited with 4: left it');
    } finally {
      process.kill(Number(read('child')));
    }
  });

  test('that cannot be started says why', async () => {
    const missing = path.join(dir, 'missing');
    expect(await refusal(run([missing]))).toBe(
      `hook preSuspend of guest vm1 cannot be started: spawn ${missing} ENOENT`,
    );
    fs.writeFileSync(path.join(dir, 'plain'), 'text');
    expect(await refusal(run([path.join(dir, 'plain')]))).toContain('cannot be started: ');
    expect(await refusal(run(['/bin/true', 'x'.repeat(1 << 20)]))).toContain('cannot be started: ');
  });
});
