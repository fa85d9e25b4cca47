import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { log, toJournal } from '../lib/log.ts';

function logged(...args: Parameters<typeof log>): string {
  const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  try {
    log(...args);
    return write.mock.calls.map(([text]) => String(text)).join('');
  } finally {
    write.mockRestore();
  }
}

test('a line has its time, its level and what it is about', () => {
  expect(logged('warn', 'the peer is silent', '4f2a vm1')).toMatch(
    /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warn \[4f2a vm1\] the peer is silent\n$/,
  );
});

test('words from outside can neither forge a line nor drive a terminal', () => {
  const text = logged('info', 'abort: x\n2026-01-01 error forged\r\x1b[2J\x9b1m', 'vm\n1');
  expect(text.match(/\n/g)).toHaveLength(1);
  expect(text.slice(0, -1)).not.toMatch(/\p{Cc}/u);
});

/** What a process logs whose stderr goes to a file, with JOURNAL_STREAM made from that file. */
function loggedInto(file: string, stream: (file: fs.Stats) => string): string {
  const fd = fs.openSync(file, 'w');
  const lib = new URL('../lib', import.meta.url).href;
  const script = `
    import { runProgram } from '${lib}/cli/cli.ts';
    import { log } from '${lib}/log.ts';
    log('info', 'ready');
    log('warn', 'the peer\\n<0>is silent', 'vm1');
    log('error', 'broken');
    await runProgram({ name: 'agent', summary: '', commands: [] }, ['fly']);`;
  const env = { ...process.env, JOURNAL_STREAM: stream(fs.fstatSync(fd)) };
  try {
    const args = ['--input-type=module', '-e', script];
    execFileSync(process.execPath, args, { env, stdio: ['ignore', 'ignore', fd] });
    return fs.readFileSync(file, 'utf8');
  } finally {
    fs.closeSync(fd);
  }
}

describe('with JOURNAL_STREAM', () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-log-'));
  const file = path.join(dir, 'journal');
  afterAll(() => fs.rmSync(dir, { recursive: true }));

  test('lines into the journal begin with their priority and leave the time to it', () => {
    expect(loggedInto(file, ({ dev, ino }) => `${dev}:${ino}`).split('\n')).toEqual([
      '<6>ready',
      '<4>[vm1] the peer <0>is silent',
      '<3>broken',
      expect.stringMatching(/^<3>agent: there is no command "fly".*\(bad-option\)$/),
      '',
    ]);
  });

  test.each([
    ['another inode', ({ dev, ino }: fs.Stats) => `${dev}:${ino + 1}`],
    ['another device', ({ dev, ino }: fs.Stats) => `${dev + 1}:${ino}`],
    ['nothing', () => ''],
    ['nonsense', () => 'journal'],
  ])('that names %s, they are as ever', (_name, stream) => {
    const [first = ''] = loggedInto(file, stream).split('\n');
    expect(first).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info ready$/);
  });

  test('a closed stderr is no journal', () => {
    expect(toJournal(9999, '1:2')).toBe(false);
  });
});
