import { randomBytes } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { STATE_PART } from '../../lib/memory/state-progress.ts';
import { SpoolEnd, StateSpool } from '../../lib/memory/state-spool.ts';
import { COUNTERS_SIZE, Counters } from '../../lib/pages/counters.ts';
import { PageHash } from '../../lib/pages/hash.ts';
import { PACER_SIZE, Pacer } from '../../lib/pages/pacer.ts';
import { StateReceiver } from '../../lib/pages/state-receiver.ts';
import { StateSender } from '../../lib/pages/state-sender.ts';
import type { Link } from '../../lib/wire/link.ts';
import type { StatePart } from '../../lib/wire/messages.ts';
import { bytesOf, spoolOf } from '../guest/states.ts';

const hash = new PageHash(7n);
const invalid = expect.objectContaining({ code: 'device-state-invalid' });
let spools: StateSpool[];
beforeEach(() => {
  spools = [];
});
afterEach(() => {
  for (const spool of spools) spool.close();
});

function track(spool: StateSpool): StateSpool {
  spools.push(spool);
  return spool;
}

function senderOf(spool: StateSpool, lane: number, lanes: number): StateSender {
  const pacer = new Pacer(new SharedArrayBuffer(PACER_SIZE));
  const counters = new Counters(new SharedArrayBuffer(COUNTERS_SIZE));
  return new StateSender({
    spool: spool.share,
    lane,
    lanes,
    hash,
    pacer,
    counters,
    turn: () => setImmediate(),
  });
}

/** A link that hands each part over and acknowledges it. */
function linkTo(receiver: StateReceiver, sender: StateSender): Link {
  let sequence = 0;
  const send = (_kind: string, message: StatePart, [part]: [Buffer]) => {
    receiver.take(message, part);
    const sent = sequence++;
    void setImmediate().then(() => sender.acknowledge(sent));
    return sent;
  };
  return { send } as unknown as Link;
}

const now = async () => {};

describe('a device state over lanes', () => {
  test.each([
    [0, 1],
    [100, 4],
    [STATE_PART, 4],
    [STATE_PART * 41 + 17, 1],
    [STATE_PART * 41 + 17, 4],
    [STATE_PART * 64, 4],
  ])('%i bytes over %i lanes, as they grow', async (bytes, lanes) => {
    const state = randomBytes(bytes);
    const from = track(StateSpool.open('/dev/shm', 1));
    const to = track(StateSpool.open('/dev/shm', lanes));
    const sent = Array.from({ length: lanes }, (_, lane) => {
      const sender = senderOf(from, lane, lanes);
      const receiver = new StateReceiver({ spool: to.share, lane, lanes, hash });
      return sender.send(linkTo(receiver, sender), now);
    });
    const writer = new SpoolEnd(from.share);
    for (let at = 0; at < bytes; at += 100_000) {
      writer.write(at, state.subarray(at, at + 100_000));
      writer.progress.wrote(0, Math.min(bytes, at + 100_000));
      await setImmediate();
    }
    from.progress.endAt(bytes);
    const digests = await Promise.all(sent);
    to.progress.endAt(bytes);
    await to.progress.whole();
    expect(bytesOf(to).equals(state)).toBe(true);
    expect(digests).toEqual(digests.map((_, lane) => to.progress.digestOf(lane)));
    if (bytes > STATE_PART * lanes) expect(new Set(digests).size).toBe(lanes);
    writer.close();
  });

  test('goes behind the pages of its lane, and waits for its window', async () => {
    const from = track(spoolOf(Buffer.alloc(STATE_PART * 64)));
    const sender = senderOf(from, 0, 1);
    const pages = Promise.withResolvers<void>();
    const sent: number[] = [];
    const link = { send: () => sent.push(0) - 1 } as unknown as Link;
    const sending = sender.send(link, () => pages.promise);
    const settle = () => new Promise((resolve) => setTimeout(resolve, 50));
    await settle();
    expect(sent).toHaveLength(0);
    pages.resolve();
    await vi.waitUntil(() => sent.length >= 32, 30_000); // 8 MiB
    await settle();
    expect(sent).toHaveLength(32);
    sender.fail(new Error('the lane has ended'));
    await expect(sending).rejects.toThrow('the lane has ended');
  });

  test('parts that are not the next of their lane, or not what was sent, are refused', () => {
    const part = Buffer.alloc(STATE_PART);
    const at = (offset: number, bytes = part) => ({ offset, hash: hash.of(bytes) });
    const receiver = () => {
      const spool = track(StateSpool.open('/dev/shm', 2));
      return { spool, lane: new StateReceiver({ spool: spool.share, lane: 1, lanes: 2, hash }) };
    };
    const first = receiver();
    for (const offset of [0, STATE_PART - 1, STATE_PART + 1, 2 * STATE_PART, 3 * STATE_PART])
      expect(() => first.lane.take(at(offset), part)).toThrow(invalid);
    expect(() => first.lane.take({ offset: STATE_PART, hash: 1n }, part)).toThrow(/not what was/);
    expect(() => first.lane.take(at(STATE_PART), Buffer.alloc(0))).toThrow(invalid);
    first.lane.take(at(STATE_PART), part);
    expect(() => first.lane.take(at(STATE_PART), part)).toThrow(invalid); // twice
    expect(() => first.lane.take(at(5 * STATE_PART), part)).toThrow(invalid); // a gap
    const short = part.subarray(1);
    first.lane.take(at(3 * STATE_PART, short), short);
    expect(() => first.lane.take(at(5 * STATE_PART), part)).toThrow(/follows the last/);

    const second = receiver();
    second.spool.progress.endAt(STATE_PART + 5);
    expect(() => second.lane.take(at(STATE_PART), part)).toThrow(/more came than/);
    // And more than any guest may have.
    const third = receiver();
    const take = () => {
      for (let n = 1; ; n += 2) third.lane.take(at(n * STATE_PART), part);
    };
    expect(take).toThrow(/268435456 are allowed/);
  });

  test('a receiver without room for it says so', () => {
    const spool = track(StateSpool.open('/dev/shm', 1));
    const full = { ...spool.share, path: '/dev/full' };
    const receiver = new StateReceiver({ spool: full, lane: 0, lanes: 1, hash });
    const part = Buffer.alloc(100);
    expect(() => receiver.take({ offset: 0, hash: hash.of(part) }, part)).toThrow(
      expect.objectContaining({
        code: 'ram-file-failed',
        message: expect.stringContaining('no memory left'),
      }),
    );
  });
});
