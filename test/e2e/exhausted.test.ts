import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { expect, test } from 'vitest';
import { Hosts } from './hosts.ts';

/** What agent-send may open besides what it has open when it serves and does nothing: to begin with. */
const MORE_FILES = 8;

test('an agent that may open no more files says so by name, and the guest runs on', async () => {
  const hosts = await Hosts.start();
  try {
    await hosts.boot();
    const pid = hosts.send.process.pid!;
    // It limits the numbers that files may have, not how many there are.
    const open = new Set(fs.readdirSync(`/proc/${pid}/fd`).map(Number));
    let limit = 0;
    for (let free = 0; free < MORE_FILES; limit++) if (!open.has(limit)) free++;
    execFileSync('prlimit', [`--pid=${pid}`, `--nofile=${limit}:${limit}`]);
    const started = await hosts.run(['migrate', 'vm1', hosts.target, '--json', '--lanes', '8']);
    const said = `${started.stdout}${started.stderr}`;
    expect(started.code, said).toBe(1);
    expect(said).toContain('EMFILE');
    expect(said).not.toMatch(/internal/);
    await hosts.mustRunAt('source');
    hosts.mustLive();
  } finally {
    await hosts.end();
  }
});
