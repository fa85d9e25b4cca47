import { expect, test } from 'vitest';
import type { MigrationProgress } from '../../../lib/guest/qemu/migration.ts';
import { PassMeter } from '../../../lib/guest/qemu/pass-meter.ts';
import type { QmpClient, QmpEvent } from '../../../lib/guest/qemu/qmp.ts';
import { summaries } from '../../../lib/guest/qemu/rehearsal.ts';

/** A QEMU that says that a pass begins, and answers how far it is. */
class FakeQemu {
  #tell: ((event: QmpEvent) => void) | undefined;
  progress = async (): Promise<MigrationProgress | undefined> => this.now;
  now: MigrationProgress | undefined;
  readonly qmp: Pick<QmpClient, 'on'> = {
    on: (_, listener) => {
      this.#tell = listener;
      return () => {};
    },
  };

  begins(pass: number, ms: number): void {
    const timestamp = { seconds: Math.floor(ms / 1000), microseconds: (ms % 1000) * 1000 };
    this.#tell!({ event: 'MIGRATION_PASS', data: { pass }, timestamp });
  }
}

test('what was dirtied in a pass is told as the next one begins, however late it is asked', async () => {
  const qemu = new FakeQemu();
  const meter = new PassMeter(qemu.qmp);
  qemu.begins(1, 5000);
  qemu.now = { pass: 1, pending: 900, sent: 100 };
  expect(await meter.next(qemu)).toEqual({ number: 1, pending: 900, dirtied: undefined });

  const second = meter.next(qemu);
  qemu.now = { pass: 2, pending: 250, sent: 1050 }; // 50 of its 300 are sent already
  qemu.begins(2, 5750);
  const dirtied = { ms: 750, pages: 300 };
  expect(await second).toEqual({ number: 2, pending: 250, dirtied });
});

test('of passes that nobody could ask about the pages are told together', async () => {
  const qemu = new FakeQemu();
  const meter = new PassMeter(qemu.qmp);
  qemu.begins(1, 0);
  qemu.now = { pass: 1, pending: 0, sent: 1000 };
  await meter.next(qemu);
  qemu.begins(2, 100);
  qemu.now = { pass: 3, pending: 7, sent: 1000 }; // its event is on its way
  expect(await meter.next(qemu)).toEqual({ number: 2, pending: 7, dirtied: undefined });
  qemu.begins(3, 101);
  qemu.begins(4, 102);
  qemu.now = { pass: 4, pending: 5, sent: 1004 };
  const { dirtied } = await meter.next(qemu);
  expect(dirtied).toEqual({ ms: 102, pages: 9 });
  qemu.begins(5, 120);
  qemu.now = { pass: 5, pending: 2, sent: 1010 };
  expect((await meter.next(qemu)).dirtied).toBeUndefined(); // 18 ms say nothing
  qemu.begins(6, 220);
  qemu.now = { pass: 6, pending: 20, sent: 1012 };
  expect((await meter.next(qemu)).dirtied).toEqual({ ms: 118, pages: 23 });
});

test('passes of about the same length make one window', () => {
  const passes = [
    { ms: 1600, pages: 9000 },
    { ms: 90, pages: 400 },
    { ms: 110, pages: 600 },
    { ms: 130, pages: 500 },
    { ms: 210, pages: 800 },
  ];
  expect(summaries(passes)).toEqual([
    { windowMs: 110, pages: 500, high: 600 },
    { windowMs: 210, pages: 800, high: 800 },
    { windowMs: 1600, pages: 9000, high: 9000 },
  ]);
  expect(summaries([])).toEqual([]);
});
