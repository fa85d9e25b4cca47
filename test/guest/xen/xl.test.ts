import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Xl } from '../../../lib/guest/xen/xl.ts';

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-xl-'));
afterAll(() => fs.rmSync(dir, { recursive: true }));

/** A program that prints this and exits so. */
function program(text: string, code = 0): Xl {
  const file = path.join(dir, `xl-${fs.readdirSync(dir).length}`);
  fs.writeFileSync(file, `#!/bin/sh\ncat <<'END'\n${text}END\nexit ${code}\n`, { mode: 0o755 });
  return new Xl(file);
}

const HEAD =
  'Name                                        ID   Mem VCPUs\tState\tTime(s)   UUID                            Reason-Code\tSecurity Label\n';
const UUID = '2f7a1c5e-5a5a-4d11-9c3b-6b8c57d0a7f';
const line = (name: string, id: number, state: string) =>
  `${name.padEnd(40)} ${String(id).padStart(5)}    96     1     ${state}       4.2 ${UUID}${id % 10}        -                -\n`;

describe('Xl', () => {
  it('reads the list of domains as xl 4.17 prints it', async () => {
    const zero = `${'Domain-0'.padEnd(40)}     0   512     2     r-----      30.5 00000000-0000-0000-0000-000000000000        -                -\n`;
    const lines = [
      ['g1', 1, 'r-----'],
      ['g2', 2, '-b----'],
      ['g3', 3, '--p---'],
      ['g4--migratedaway', 4, '---ss-'],
      ['g5', 5, '---sc-'],
      ['g6', 6, '---s--'],
      ['g7', 7, '---sw-'],
      ['(null)', 8, '-b-s-d'],
    ] as const;
    const xl = program(
      HEAD + zero + lines.map(([name, id, state]) => line(name, id, state)).join(''),
    );
    expect((await xl.list()).map(({ name, domid, state }) => [name, domid, state])).toEqual([
      ['g1', 1, 'running'],
      ['g2', 2, 'running'],
      ['g3', 3, 'paused'],
      ['g4--migratedaway', 4, 'migrated'],
      ['g5', 5, 'panicked'],
      ['g6', 6, 'shut-down'],
      ['g7', 7, 'watchdog'],
    ]);
    expect(await xl.domain(`${UUID}3`)).toMatchObject({ name: 'g3', memoryBytes: 96 << 20 });
    expect(await xl.domain(`${UUID}9`)).toBeUndefined();
  });

  it('concludes nothing from what is no list, and from two domains with one UUID', async () => {
    const failed = program('xl: cannot open xenstore\n', 1);
    for (const xl of [program(''), program('no such command\n'), failed])
      await expect(xl.list()).rejects.toMatchObject({ code: 'not-seen' });
    const twice = program(HEAD + line('g1', 1, '-b----') + line('g1--incoming', 11, '--p---'));
    await expect(twice.domain(`${UUID}1`)).rejects.toMatchObject({ code: 'not-seen' });
  });
});
