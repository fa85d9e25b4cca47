import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { GodwitError } from '../../lib/errors.ts';
import type { SourceContext } from '../../lib/migration/source/basis.ts';
import { Ending } from '../../lib/migration/source/ending.ts';
import { openHandover } from '../../lib/migration/source/handover.ts';
import { GuestRecords } from '../../lib/ownership/guest-record.ts';
import { BLANK_ENTRY } from '../../lib/ownership/handover.ts';
import { Journal } from '../../lib/ownership/journal/journal.ts';
import { RecordFiles } from '../../lib/ownership/record-files.ts';
import { SOURCE_STATES, startSource } from '../../lib/ownership/source-machine.ts';

const opened: { readonly dir: string; readonly journal: Journal }[] = [];
const migration = '00112233aabbccdd';
const cancelled = new GodwitError('cancelled', 'the migration was cancelled');
const closed = new GodwitError('peer-closed', 'the connection was closed');

afterEach(async () => {
  for (const { dir, journal } of opened.splice(0)) {
    await journal.close();
    fs.rmSync(dir, { recursive: true });
  }
});

async function open() {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-ending-'));
  const journal = await Journal.open(dir, SOURCE_STATES);
  opened.push({ dir, journal });
  const files = await RecordFiles.open(path.join(dir, 'host'));
  const holder = { side: 'source', journal: 'j', stateDir: dir } as const;
  const tenure = await new GuestRecords(files, holder, () => true).claim('web', migration);
  const { name: state, epoch } = startSource(tenure.epoch);
  const known = { guest: 'web', hypervisor: 'simulated', handle: '7', peer: 'hostb:7100' };
  const entry = { migration, state, epoch, ...known, ...BLANK_ENTRY };
  await journal.append(entry);
  const log = () => {};
  const handover = openHandover({
    entry,
    context: {
      journal,
      tenure,
      attach: async () => 'gone',
      hook: async () => {},
      onChange: () => {},
      log,
    } as Partial<SourceContext> as SourceContext,
    suspension: () => undefined,
    onCommit: () => {},
    onReport: (moved, error) => ending.report(moved, error),
    onChange: () => {},
  });
  const ending: Ending = new Ending(handover, log);
  return { handover, ending };
}

test('the first reason counts: what fails after it fails because of it', async () => {
  const { handover, ending } = await open();
  const phase = ending.or(new Promise<never>(() => {}));
  ending.abort(cancelled);
  ending.because(closed);
  await expect(phase).rejects.toBe(cancelled);
  expect(ending.reason(closed)).toBe(cancelled);
  expect(ending.signal.aborted).toBe(true);
  await handover.idle();
  expect(ending.cancellable).toBe(false);
});

test('a phase that fails by itself is the reason; one that is through is not disturbed', async () => {
  const { ending } = await open();
  expect(await ending.or(Promise.resolve(7))).toBe(7);
  await expect(ending.or(Promise.reject(closed))).rejects.toBe(closed);
  expect(ending.reason(closed)).toBe(closed);
});
