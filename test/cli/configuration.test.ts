import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { type Input, type Program, runProgram } from '../../lib/cli/cli.ts';
import { configure, given, readConfiguration } from '../../lib/cli/configuration.ts';
import { GodwitError } from '../../lib/errors.ts';

const OPTIONS = {
  listen: { value: 'HOST:PORT', help: 'where' },
  lanes: { value: 'N', help: 'how many' },
  'allow-peer': { value: 'NAME', help: 'who', repeatable: true },
  insecure: { help: 'really' },
} as const;

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-config-'));
const file = path.join(dir, 'agent.json');
afterAll(() => fs.rmSync(dir, { recursive: true }));

function write(content: unknown): string {
  const text = typeof content === 'string' ? content : JSON.stringify(content);
  fs.writeFileSync(file, text, { mode: 0o600 });
  return file;
}

/** What a command gets to see that is run with these arguments. */
async function inputOf(...args: string[]): Promise<Input> {
  let seen: Input | undefined;
  const run = async (input: Input) => {
    seen = input;
    return 0;
  };
  const command = { name: 'serve', arguments: [], summary: '', options: OPTIONS, run };
  const program: Program = { name: 'agent', summary: '', commands: [command] };
  expect(await runProgram(program, ['serve', ...args])).toBe(0);
  return seen!;
}

async function configured(content: unknown, ...args: string[]) {
  const input = configure(await inputOf(...args), readConfiguration(write(content), OPTIONS));
  return {
    listen: input.option('listen'),
    lanes: input.option('lanes'),
    peers: input.options('allow-peer'),
    insecure: input.flag('insecure'),
  };
}

describe('a configuration', () => {
  test('has options by their names, as if they stood on the command line', async () => {
    const content = { listen: 'h:1', lanes: 4, 'allow-peer': ['a', 'b'], insecure: true };
    const asFlags = ['--listen=h:1', '--lanes=4', '--allow-peer=a', '--allow-peer=b'];
    const both = await configured({}, ...asFlags, '--insecure');
    expect(await configured(content)).toEqual(both);
    expect(both).toEqual({ listen: 'h:1', lanes: '4', peers: ['a', 'b'], insecure: true });
  });

  test('may say nothing', async () => {
    const nothing = { listen: undefined, lanes: undefined, peers: [], insecure: false };
    expect(await configured({})).toEqual(nothing);
    expect(await configured({ 'allow-peer': [], insecure: false })).toEqual(nothing);
  });

  test('gives way to the command line, option by option; a list as a whole', async () => {
    const content = { listen: 'h:1', lanes: '4', 'allow-peer': ['a', 'b'] };
    expect(await configured(content, '--listen=h:2', '--allow-peer=c', '--insecure')).toEqual({
      listen: 'h:2',
      lanes: '4',
      peers: ['c'],
      insecure: true,
    });
  });

  test('is not taken for the command line', async () => {
    const input = await inputOf('--listen=h:1', '--allow-peer=a', '--insecure');
    for (const name of ['listen', 'allow-peer', 'insecure']) expect(given(input, name)).toBe(true);
    expect(given(input, 'lanes')).toBe(false);
  });
});

function refusal(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    expect(error).toBeInstanceOf(GodwitError);
    expect((error as GodwitError).code).toBe('bad-option');
    return (error as Error).message;
  }
  throw new Error('it was taken');
}

describe('refused, naming the file and the key:', () => {
  test.each([
    [{ Listen: 'h:1' }, '"Listen"; there are listen, lanes, allow-peer, insecure'],
    [{ '--listen': 'h:1' }, '"--listen"'],
    [{ config: 'other.json' }, '"config"'],
    ['{"__proto__": "x"}', '"__proto__"'],
    [{ constructor: 'x' }, '"constructor"'],
    [{ listen: ['h:1'] }, '"listen" takes HOST:PORT as one string or number'],
    [{ listen: true }, '"listen" takes HOST:PORT'],
    [{ listen: null }, '"listen" takes HOST:PORT'],
    [{ lanes: { n: 4 } }, '"lanes" takes N'],
    [{ 'allow-peer': 'a' }, '"allow-peer" takes a list of strings, each NAME'],
    [{ 'allow-peer': ['a', 1] }, '"allow-peer" takes a list of strings'],
    [{ insecure: 'true' }, '"insecure" takes true or false'],
    [{ insecure: 1 }, '"insecure" takes true or false'],
    ['{"listen": "h:1",}', 'is not JSON: '],
    ['', 'is not JSON: '],
    ['[]', 'is not a JSON object'],
    ['null', 'is not a JSON object'],
    ['"x"', 'is not a JSON object'],
    [' '.repeat(70_000), 'at most 65536 bytes'],
  ])('%j', (content, why) => {
    const message = refusal(() => readConfiguration(write(content), OPTIONS));
    expect(message).toContain(why);
    expect(message.startsWith(`${file}: `)).toBe(true);
    expect(message).not.toContain('\n');
  });

  test('a file that is not there, or is none', () => {
    const nowhere = path.join(dir, 'nowhere.json');
    expect(refusal(() => readConfiguration(nowhere, OPTIONS))).toContain(`${nowhere}: `);
    expect(refusal(() => readConfiguration(nowhere, OPTIONS))).toContain('ENOENT');
    expect(refusal(() => readConfiguration(dir, OPTIONS))).toContain('is a file');
    expect(refusal(() => readConfiguration('/dev/zero', OPTIONS))).toContain('is a file');
  });

  test.each([0o666, 0o664])('a file that others may write to: %o', (mode) => {
    fs.chmodSync(write({}), mode);
    try {
      expect(refusal(() => readConfiguration(file, OPTIONS))).toContain('chmod go-w');
    } finally {
      fs.chmodSync(file, 0o600);
    }
  });
});
