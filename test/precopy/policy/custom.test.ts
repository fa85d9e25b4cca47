import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { OpenPolicy } from '../../../lib/precopy/loop.ts';
import { contractPolicy } from '../../../lib/precopy/policy/contract.ts';
import { openCustomPolicy } from '../../../lib/precopy/policy/custom.ts';
import { openPolicy } from '../../../lib/precopy/policy/open.ts';
import { UNKNOWN } from '../../../lib/precopy/stats.ts';
import { afterForecasts, LIMITS } from './stats.ts';

/** Generous where an answer is expected, so that a busy machine fails nothing. */
const PATIENT = { consultMs: 20_000, startMs: 60_000 };
/** Short where none will ever come. */
const BRIEF = { consultMs: 50, startMs: 60_000 };

const stats = afterForecasts([250, 100], 200);
const safe = contractPolicy(stats, LIMITS);
let dir: string;
let files = 0;
const open: OpenPolicy[] = [];

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'godwit-policy-'));
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((policy) => policy.close()));
});
afterAll(() => rm(dir, { recursive: true }));

async function module(source: string): Promise<string> {
  const file = join(dir, `policy-${files++}.ts`);
  await writeFile(file, source);
  return file;
}

async function opened(source: string, times = PATIENT): Promise<OpenPolicy> {
  const policy = await openCustomPolicy(await module(source), times);
  open.push(policy);
  return policy;
}

/** What a module that is asked once says, or why the contract policy spoke instead. */
async function ask(source: string, times = PATIENT): Promise<string> {
  const { verdict, problem } = await (await opened(source, times)).consult(stats, LIMITS);
  if (problem === undefined) return `${verdict.action}: ${verdict.reason}`;
  expect(verdict).toEqual(safe);
  return problem;
}

describe('a good module', () => {
  test('is TypeScript, sees statistics and limits, and decides', async () => {
    const source = `
      type Stats = { dirtyCount: number; history: { round: number }[] };
      export function policy(stats: Stats, limits: { maxSuspendMs: number }) {
        const seen = \`\${stats.dirtyCount} dirty, \${stats.history.length} rounds, \${limits.maxSuspendMs} ms\`;
        return { action: 'abort', reason: seen };
      }`;
    expect(await ask(source)).toBe('abort: 9000 dirty, 2 rounds, 300 ms');
  });

  test('may export by default, and answer later', async () => {
    const source = `export default async () => ({ action: 'continue', reason: 'patience' });`;
    expect(await ask(source)).toBe('continue: patience');
  });

  test('is found by its name', async () => {
    const file = await module(`export const policy = () => ({ action: 'abort', reason: 'no' });`);
    const policy = await openPolicy('custom', file);
    open.push(policy);
    // The product's own time limit: on a very busy machine the module may come too late.
    const { verdict, problem } = await policy.consult(stats, LIMITS);
    expect(problem ?? verdict.reason).toMatch(/^no$|did not answer within 100 ms/);
  });
});

describe('a guest that is held', () => {
  const held = { ...stats, hold: { opensMs: UNKNOWN, closesMs: UNKNOWN } };
  const answering = (action: string) =>
    opened(`export const policy = () => ({ action: '${action}', reason: 'mine' });`);

  test.each(['continue', 'hold', 'abort'])('%s is its own to answer', async (action) => {
    const policy = await answering(action);
    expect(await policy.consult(held, LIMITS)).toEqual({ verdict: { action, reason: 'mine' } });
  });

  test('stop-and-copy is not, unless it was ordered', async () => {
    const policy = await answering('stop-and-copy');
    const { verdict, problem } = await policy.consult(held, LIMITS);
    expect(verdict.action).toBe('hold');
    expect(problem).toMatch(/answered stop-and-copy for a held guest; the contract policy decided/);
    const ordered = { ...held, cutoverRequested: true };
    expect((await policy.consult(ordered, LIMITS)).verdict.action).toBe('stop-and-copy');
  });
});

describe('a bad module costs the migration nothing', () => {
  const instead = '; the contract policy decided instead';

  test.each([
    [`throw new Error('oh no')`, `threw "oh no"`],
    [`return undefined`, 'answered undefined, not a verdict'],
    [`return null`, 'answered null, not a verdict'],
    [`return 'continue'`, 'answered string, not a verdict'],
    [`return { action: 'explode', reason: 'fun' }`, 'answered the unknown action "explode"'],
    [`return { action: 7, reason: 'fun' }`, 'answered the unknown action number'],
    [`return { action: 'abort' }`, 'answered abort without a reason'],
    [`process.exit(1)`, 'ended by itself'],
  ])('%s', async (body, problem) => {
    expect(await ask(`export const policy = () => { ${body} };`)).toBe(
      `the policy module ${problem}${instead}`,
    );
  });

  test('an answer that cannot be sent between threads', async () => {
    const source = `export const policy = () => ({ action: 'abort', reason: () => 1 });`;
    expect(await ask(source)).toMatch(/^the policy module threw ".*could not be cloned/);
  });

  test('one that eats all memory', async () => {
    const source = `export const policy = () => { const a = []; for (;;) a.push({ a: a.length }); };`;
    expect(await ask(source)).toMatch(/^the policy module failed: .*memory/);
  });

  test('one that hangs is stopped, started again, and given up after a few times', async () => {
    const policy = await opened(`export const policy = () => { for (;;); };`, BRIEF);
    const problems = new Set<string>();
    // While its worker starts again it is only said to be loading, for as long as that takes.
    for (const end = Date.now() + 50_000; Date.now() < end; ) {
      const { verdict, problem } = await policy.consult(stats, LIMITS);
      expect(verdict).toEqual(safe);
      problems.add(problem!);
      if (problem!.includes('any more')) break;
    }
    expect(problems).toContain(`the policy module did not answer within 50 ms${instead}`);
    expect(problems).toContain(
      `the policy module is not asked any more, its worker was lost 3 times${instead}`,
    );
  });

  test('one that fails once is asked again', async () => {
    const policy = await opened(`
      let asked = 0;
      export const policy = () => {
        if (asked++ === 0) throw new Error('first time');
        return { action: 'continue', reason: 'second time' };
      };`);
    expect((await policy.consult(stats, LIMITS)).problem).toMatch(/first time/);
    expect(await policy.consult(stats, LIMITS)).toEqual({
      verdict: { action: 'continue', reason: 'second time' },
    });
  });
});

describe('refused before anything starts', () => {
  test.each([
    ['export const rule = () => 1;', 'it exports no function named policy and none as default'],
    ['export const policy = 5;', 'it exports no function named policy and none as default'],
    [`throw new Error('broken');`, 'broken'],
  ])('%s', async (source, why) => {
    const file = await module(source);
    await expect(openCustomPolicy(file, PATIENT)).rejects.toMatchObject({
      code: 'bad-option',
      message: `--policy-module ${file} cannot be used: ${why}`,
    });
  });

  test('text that is no program', async () => {
    const file = await module('this is not a policy');
    await expect(openCustomPolicy(file, PATIENT)).rejects.toMatchObject({ code: 'bad-option' });
  });

  test('one that never finishes loading', async () => {
    const file = await module('for (;;);');
    const opening = openCustomPolicy(file, { consultMs: 50, startMs: 200 });
    await expect(opening).rejects.toThrow('did not load within 200 ms');
  });

  test('no file, a directory, no name, a name too many', async () => {
    await expect(openCustomPolicy(join(dir, 'none.ts'))).rejects.toMatchObject({
      code: 'bad-option',
      message: `--policy-module ${dir}/none.ts cannot be used: the file cannot be read`,
    });
    await expect(openCustomPolicy(dir)).rejects.toThrow('it is not a file');
    await expect(openPolicy('custom')).rejects.toThrow('needs --policy-module');
    await expect(openPolicy('xen', join(dir, 'none.ts'))).rejects.toThrow('no meaning for the xen');
  });
});
