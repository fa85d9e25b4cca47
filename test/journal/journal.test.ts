import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SOURCE_STATES } from '../../lib/handover/source-machine.ts';
import { Journal, type JournalChange, openEntries } from '../../lib/journal/journal.ts';
import { decodeRecords, encodeRecord } from '../../lib/journal/record.ts';
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
    for (let i = 0; i < 3000; i++) {
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
});
