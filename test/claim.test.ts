import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Claim } from '../lib/claim.ts';
import { cutOff, noNamespaces } from './e2e/namespaces.ts';

let dir: string;
let file: string;
beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-claim-'));
  file = path.join(dir, 'lock');
});
afterEach(() => fs.rmSync(dir, { recursive: true }));

const PROGRAM = `
  const { Claim } = await import(${JSON.stringify(new URL('../lib/claim.ts', import.meta.url))});
  console.log((await Claim.take(process.argv[1])) ? 'taken' : 'refused');
  process.stdin.resume().on('end', () => process.exit());
`;

/** Takes the claim in a process of its own, as command `within` starts it, and says how that went. */
async function elsewhere(...within: string[]) {
  const [program, ...args] = [...within, process.execPath, '--input-type=module', '-e', PROGRAM];
  const child = spawn(program!, [...args, file], { stdio: ['pipe', 'pipe', 'inherit'] });
  const [said] = await once(child.stdout, 'data');
  return { said: String(said).trim(), child, ended: once(child, 'exit') };
}

test('a name is of one process at a time, and free when that is killed', async () => {
  const holder = await elsewhere();
  expect(holder.said).toBe('taken');
  expect(await Claim.take(file)).toBeUndefined();
  holder.child.kill('SIGKILL');
  await holder.ended;
  const claim = await Claim.take(file);
  expect(claim?.held).toBe(true);
  expect(await Claim.take(file)).toBeUndefined(); // within one process, too
  claim!.release();
  expect(claim!.held).toBe(false);
  (await Claim.take(file))!.remove();
  expect(fs.readdirSync(dir)).toEqual([]);
});

test.skipIf(noNamespaces())('it counts in every network namespace', async () => {
  const namespace = cutOff();
  try {
    const claim = await Claim.take(file);
    const other = await elsewhere(...namespace.within);
    expect(other.said).toBe('refused');
    other.child.stdin.end();
    await other.ended;
    claim!.release();
  } finally {
    namespace.close();
  }
});

test('of many at once one has it, also while holders remove their file', async () => {
  for (let round = 0; round < 10; round++) {
    const claims = await Promise.all(Array.from({ length: 4 }, () => Claim.take(file)));
    const held = claims.filter((claim) => claim !== undefined);
    expect(held.length).toBe(1);
    held[0]!.remove();
  }
});

test('who waited for a file that was removed does not hold a name that another has', async () => {
  const first = (await Claim.take(file))!;
  const late = Claim.take(file); // has opened the file
  first.remove();
  const claims = [await late, await Claim.take(file)].filter((claim) => claim !== undefined);
  expect(claims.length).toBe(1);
  claims[0]!.remove();
});

test('nobody else can hold it: no links, no directories in which others can make files', async () => {
  const failed = { code: 'claim-failed' };
  const target = path.join(dir, 'target');
  fs.symlinkSync(target, file);
  await expect(Claim.take(file)).rejects.toMatchObject(failed);
  expect(fs.existsSync(target)).toBe(false);
  fs.rmSync(file);
  fs.chmodSync(dir, 0o1777);
  await expect(Claim.take(file)).rejects.toThrow(`others may write to ${dir}`);
  fs.chmodSync(dir, 0o700);
  await expect(Claim.take(path.join(dir, 'no', 'lock'))).rejects.toMatchObject(failed);
  await expect(Claim.take(dir)).rejects.toMatchObject(failed);
});

test.skipIf(process.getuid!() !== 0)('nor in a directory of somebody else', async () => {
  fs.chownSync(dir, 65534, 65534);
  await expect(Claim.take(file)).rejects.toThrow(`${dir} belongs to user 65534`);
});
