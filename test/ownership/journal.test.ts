import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  Journal,
  type JournalChange,
  JournalDoubt,
  openEntries,
} from '../../lib/ownership/journal/journal.ts';
import { decodeRecords, encodeRecord } from '../../lib/ownership/journal/record.ts';
import { SOURCE_STATES } from '../../lib/ownership/source-machine.ts';
import type { JournalRecord } from '../../lib/wire/messages.ts';

const RECORD: JournalRecord = {
  migration: '0123456789abcdef',
  state: 'committed',
  epoch: 1,
  time: 1_700_000_000_000,
  guest: 'vm1',
  hypervisor: 'simulated',
  handle: '4711',
  peer: 'hostb:7070',
  secret: new Uint8Array(16).fill(7),
  code: '',
  text: '',
  held: false,
  runState: 'running',
  seal: new Uint8Array([1, 2]),
};

let dir: string;
beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-journal-'));
});
afterEach(() => fs.rmSync(dir, { recursive: true }));

const file = () => path.join(dir, 'journal');
const change = (state: string, epoch = 1, migration = RECORD.migration): JournalChange => ({
  migration,
  state,
  epoch,
});

describe('records', () => {
  it('cut anywhere leave those before the cut', () => {
    const states = ['precopy', 'suspended', 'committed'];
    const pieces = states.map((state) => encodeRecord({ ...RECORD, state }));
    const bytes = Buffer.concat(pieces);
    for (let cut = 0; cut <= bytes.length; cut++) {
      const { records, end } = decodeRecords(bytes.subarray(0, cut));
      const whole = pieces.filter((_, i) => {
        return Buffer.concat(pieces.slice(0, i + 1)).length <= cut;
      });
      expect(records.map(({ state }) => state)).toEqual(states.slice(0, whole.length));
      expect(end).toBe(Buffer.concat(whole).length);
    }
  });

  it('damaged before good ones are refused, damaged at the end are cut off', () => {
    const one = encodeRecord(RECORD);
    const bytes = Buffer.concat([one, encodeRecord({ ...RECORD, state: 'released' })]);
    for (let at = 0; at < bytes.length; at++) {
      const damaged = Buffer.from(bytes);
      damaged[at]! ^= 0x5a;
      if (at < one.length)
        expect(() => decodeRecords(damaged), `byte ${at}`).toThrow(
          expect.objectContaining({ code: 'journal-invalid' }),
        );
      else expect(decodeRecords(damaged).records).toHaveLength(1);
    }
  });

  it('of any bytes are read or refused, never invented', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (noise) => {
        const bytes = Buffer.concat([encodeRecord(RECORD), noise]);
        expect(decodeRecords(bytes).records).toEqual([RECORD]);
      }),
    );
  });
});

describe('journal', () => {
  it('is read as it was written, by the newest record of each migration', async () => {
    const other = 'fedcba9876543210';
    const journal = await Journal.open(dir, SOURCE_STATES);
    await journal.append({ ...RECORD, state: 'precopy' });
    await journal.append(change('receiving', 1, other));
    await journal.append(change('suspended'));
    await journal.append({ ...change('committed', 2), text: 'why' });
    await journal.append(change('ended', 1, other));
    await journal.close();
    const again = await Journal.open(dir, SOURCE_STATES);
    expect(again.open).toEqual([
      { ...RECORD, state: 'committed', epoch: 2, text: 'why', time: expect.any(Number) },
    ]);
    await again.close();
    expect(fs.statSync(file()).mode & 0o777).toBe(0o600);
  });

  it('loses a torn tail and nothing else', async () => {
    const journal = await Journal.open(dir, SOURCE_STATES);
    await journal.append({ ...RECORD, state: 'suspended' });
    await journal.close();
    fs.appendFileSync(file(), encodeRecord(RECORD).subarray(0, -1));
    const again = await Journal.open(dir, SOURCE_STATES);
    expect(again.entry(RECORD.migration)?.state).toBe('suspended');
    await again.append(change('aborted'));
    await again.close();
    expect(openEntries(decodeRecords(fs.readFileSync(file())).records).size).toBe(1);
  });

  it('stays small however many migrations it has seen', async () => {
    const journal = await Journal.open(dir, SOURCE_STATES);
    await journal.append(RECORD);
    for (let i = 0; i < 1500; i++) {
      const migration = i.toString(16).padStart(16, '0');
      await journal.append({ ...RECORD, state: 'precopy', migration });
      await journal.append(change('ended', 1, migration));
    }
    expect(fs.statSync(file()).size).toBeLessThan(300 * 1024);
    await journal.append(change('released'));
    await journal.close();
    const again = await Journal.open(dir, SOURCE_STATES);
    expect(again.open.map(({ state }) => state)).toEqual(['released']);
    await again.close();
  });

  it('belongs to one agent at a time', async () => {
    const journal = await Journal.open(dir, SOURCE_STATES);
    await expect(Journal.open(dir, SOURCE_STATES)).rejects.toMatchObject({
      code: 'journal-failed',
    });
    await journal.close();
    await (await Journal.open(dir, SOURCE_STATES)).close();
  });

  it('of another agent or version is refused', async () => {
    for (const state of ['receiving', 'migrating-by-magic', '']) {
      fs.writeFileSync(file(), encodeRecord({ ...RECORD, state }));
      await expect(Journal.open(dir, SOURCE_STATES)).rejects.toMatchObject({
        code: 'journal-invalid',
        message: expect.stringContaining(`in state "${state}"`),
      });
    }
  });

  it('of any bytes is read or refused', async () => {
    const pieces = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.constantFrom(...SOURCE_STATES).map((state) => encodeRecord({ ...RECORD, state })),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(pieces, { maxLength: 6 }), fc.nat(), async (parts, flip) => {
        const bytes = Buffer.concat(parts);
        if (bytes.length > 0 && flip % 2 === 0) bytes[flip % bytes.length]! ^= 1 << (flip % 8);
        fs.writeFileSync(file(), bytes);
        const journal = await Journal.open(dir, SOURCE_STATES).catch((error) => error);
        if (journal instanceof Journal) {
          for (const entry of journal.open)
            expect(entry).toMatchObject({ migration: RECORD.migration });
          await journal.close();
        } else expect(journal).toMatchObject({ code: 'journal-invalid' });
      }),
      { numRuns: 200 },
    );
  });

  it('that is damaged in the middle is refused with its name', async () => {
    const bytes = Buffer.concat([encodeRecord(RECORD), encodeRecord(RECORD)]);
    bytes[20]! ^= 1;
    fs.writeFileSync(file(), bytes);
    await expect(Journal.open(dir, SOURCE_STATES)).rejects.toMatchObject({
      code: 'journal-invalid',
      message: expect.stringContaining(file()),
    });
  });

  it('keeps what a record leaves out, and forgets a note about what has ended', async () => {
    const journal = await Journal.open(dir, SOURCE_STATES);
    await journal.append(RECORD);
    await journal.append({ ...change('released', 2), held: true });
    await journal.note(RECORD.migration, { handle: '4712' });
    expect(journal.entry(RECORD.migration)).toMatchObject({
      ...{ state: 'released', epoch: 2, held: true, seal: RECORD.seal, handle: '4712' },
    });
    await journal.append(change('ended', 2));
    await journal.note(RECORD.migration, { handle: '4713' });
    expect(journal.open).toEqual([]);
    await journal.close();
  });
});

describe('whose journal it is', () => {
  it('says itself, and which records of guests it was kept with', async () => {
    const journal = await Journal.open(dir, SOURCE_STATES);
    const id = await journal.identify('records 1');
    expect(await journal.identify('records 1')).toBe(id);
    await expect(journal.identify('records 2')).rejects.toMatchObject({
      code: 'journal-invalid',
      message: expect.stringContaining('--host-dir'),
    });
    await journal.close();
    const again = await Journal.open(dir, SOURCE_STATES);
    expect(await again.identify('records 1')).toBe(id);
    await again.close();
  });

  it('of an older version is refused while something of it is open', async () => {
    const old = await Journal.open(dir, SOURCE_STATES);
    await old.append(RECORD);
    await expect(old.identify('records')).rejects.toMatchObject({
      code: 'journal-invalid',
      message: expect.stringContaining('older version'),
    });
    await old.append(change('ended'));
    expect(await old.identify('records')).toMatch(/^[0-9a-f-]{36}$/);
    await old.close();
  });

  it('that is damaged is not guessed', async () => {
    const journal = await Journal.open(dir, SOURCE_STATES);
    fs.writeFileSync(path.join(dir, 'identity'), '{}');
    await expect(journal.identify('records')).rejects.toMatchObject({ code: 'journal-invalid' });
    await journal.close();
  });
});

/** So many of the next calls fail, as on a bad disk. @returns the way back */
async function badDisk(failing: { sync: number; truncate: number }): Promise<() => void> {
  const prototype = Object.getPrototypeOf(await fs.promises.open(dir, 'r').then(closed));
  const real = { datasync: prototype.datasync, truncate: prototype.truncate };
  const bad = () => Promise.reject(new Error('EIO: i/o error'));
  prototype.datasync = function (...args: []) {
    return failing.sync-- > 0 ? bad() : real.datasync.apply(this, args);
  };
  prototype.truncate = function (...args: []) {
    return failing.truncate-- > 0 ? bad() : real.truncate.apply(this, args);
  };
  return () => Object.assign(prototype, real);
}

async function closed(handle: fs.promises.FileHandle) {
  await handle.close();
  return handle;
}

const onDisk = () => openEntries(decodeRecords(fs.readFileSync(file())).records);

describe('a write that fails', () => {
  it('leaves nothing behind when it can be cut off', async () => {
    const journal = await Journal.open(dir, SOURCE_STATES);
    await journal.append({ ...RECORD, state: 'suspended' });
    const repair = await badDisk({ sync: 1, truncate: 0 });
    try {
      const thrown = await journal.append(change('committed')).catch((error) => error);
      expect(thrown).toMatchObject({ code: 'journal-failed' });
      expect(thrown).not.toBeInstanceOf(JournalDoubt);
    } finally {
      repair();
    }
    expect(journal.entry(RECORD.migration)?.state).toBe('suspended');
    expect(onDisk().get(RECORD.migration)?.state).toBe('suspended');
    await journal.append(change('aborted'));
    expect(onDisk().get(RECORD.migration)?.state).toBe('aborted');
    await journal.close();
  });

  it('is in doubt when it cannot, and the next record goes into a new file with all that is open', async () => {
    const other = 'fedcba9876543210';
    const journal = await Journal.open(dir, SOURCE_STATES);
    await journal.append({ ...RECORD, state: 'suspended' });
    await journal.append({ ...RECORD, migration: other, state: 'precopy' });
    const { ino } = fs.statSync(file());
    const repair = await badDisk({ sync: 1, truncate: 1 });
    try {
      await expect(journal.append(change('committed'))).rejects.toBeInstanceOf(JournalDoubt);
    } finally {
      repair();
    }
    expect(journal.entry(RECORD.migration)?.state).toBe('committed'); // it may be found
    await journal.append({ ...change('released'), held: true });
    expect(fs.statSync(file()).ino).not.toBe(ino);
    const found = onDisk();
    expect(found.get(RECORD.migration)).toMatchObject({ state: 'released', held: true });
    expect(found.get(other)?.state).toBe('precopy');
    await journal.append(change('ended', 1, other));
    expect([...onDisk().keys()]).toEqual([RECORD.migration]);
    await journal.close();
  });
});

/** Only root has disks of its own. */
describe.skipIf(process.getuid?.() !== 0)('a full disk', () => {
  let disk: string;
  beforeEach(() => {
    disk = path.join(dir, 'disk');
    fs.mkdirSync(disk, { mode: 0o700 });
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k,mode=700', 'tmpfs', disk]);
  });
  afterEach(() => execFileSync('umount', ['--lazy', disk]));
  const fill = () =>
    expect(() => fs.writeFileSync(path.join(disk, 'fill'), Buffer.alloc(1024 * 1024))).toThrow(
      /ENOSPC/,
    );

  it('does not keep an agent from its journal, torn as it is', async () => {
    const journal = await Journal.open(disk, SOURCE_STATES);
    await journal.append(RECORD);
    await journal.close();
    fs.appendFileSync(path.join(disk, 'journal'), encodeRecord(RECORD).subarray(0, -1));
    fill();
    const again = await Journal.open(disk, SOURCE_STATES);
    expect(again.entry(RECORD.migration)?.state).toBe('committed');
    await again.close();
  });

  it('refuses records without a doubt, and takes them when there is room', async () => {
    const journal = await Journal.open(disk, SOURCE_STATES);
    await journal.append({ ...RECORD, state: 'suspended' });
    fill();
    const long = { ...change('aborted'), text: 'x'.repeat(8000) };
    const thrown = await journal.append(long).catch((error) => error);
    expect(thrown).toMatchObject({ code: 'journal-failed' });
    expect(thrown).not.toBeInstanceOf(JournalDoubt);
    expect(journal.entry(RECORD.migration)?.state).toBe('suspended');
    fs.rmSync(path.join(disk, 'fill'));
    await journal.append(long);
    await journal.close();
    const again = await Journal.open(disk, SOURCE_STATES);
    expect(again.entry(RECORD.migration)).toMatchObject({ state: 'aborted', text: long.text });
    await again.close();
  });
});
