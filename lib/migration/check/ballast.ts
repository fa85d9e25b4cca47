import { randomFillSync } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { GodwitError } from '../../errors.ts';
import { PACER_SIZE, Pacer } from '../../pages/pacer.ts';
import { within } from '../../poll.ts';
import type { Connection } from '../../wire/connection.ts';

/** Ballast of one check over all lanes, and of one frame, bytes; sending it takes no longer than this, ms. */
export const BALLAST_BYTES = 64 << 20;
export const BALLAST_FRAME = 64 << 10;
const BALLAST_MS = 1000;
/** On its way on one lane at most: as many bytes as a lane has in batches. */
const WINDOW_BYTES = 8 << 20;
/** A link so slow that a second brings no frame over is waited for a while, ms. */
const FIRST_FRAME_MS = 5000;
/** Empty frames whose median answer is the round trip. */
const ROUND_TRIPS = 5;
/** Share of the rate that it may be off: links are never exact, never hopeless. */
const MIN_SPREAD = 0.05;
const MAX_SPREAD = 0.5;

/** The way to a destination, measured over open lanes. */
export interface MeasuredWay {
  /** Bytes per second that the destination acknowledged, no more than the cap. */
  readonly rate: number;
  /** By how much the rate differed in the course of it, as a share. */
  readonly spread: number;
  readonly roundTripMs: number;
  /** Acknowledged, and in what time. */
  readonly bytes: number;
  readonly ms: number;
}

/** Frames on one lane and their acknowledgements. */
export class BallastLane {
  readonly #connection: Connection;
  readonly #onAck: (bytes: number) => void;
  /** Payload of the frames that are not acknowledged, the oldest first. */
  readonly #waiting: number[] = [];
  #sent = 0;
  #acked = 0;
  #onWay = 0;
  #changed = Promise.withResolvers<void>();

  /** @param onAck called with the payload bytes that were acknowledged */
  constructor(connection: Connection, onAck: (bytes: number) => void) {
    this.#connection = connection;
    this.#onAck = onAck;
    this.#changed.promise.catch(() => {});
    connection.serve({
      onMessage: ({ kind }) => {
        throw new GodwitError('bad-kind', `${kind} on a lane that only measures`);
      },
      onAck: (sequence) => this.#acknowledged(sequence),
      onClose: (error = new GodwitError('peer-closed', 'a data connection was closed')) =>
        this.#changed.reject(error),
    });
  }

  /** Sends a frame when there is room for it. Rejects when the lane is lost. */
  async send(payload: Buffer): Promise<void> {
    while (this.#onWay >= WINDOW_BYTES) await this.#changed.promise;
    this.#connection.send('Ballast', {}, [payload]);
    this.#waiting.push(payload.length);
    this.#onWay += payload.length;
    this.#sent++;
    await this.#connection.ready();
  }

  /** Resolves when everything sent is acknowledged. Rejects when the lane is lost. */
  async drained(): Promise<void> {
    while (this.#acked < this.#sent) await this.#changed.promise;
  }

  #acknowledged(sequence: number): void {
    const count = sequence + 1 - this.#acked;
    const bytes = this.#waiting.splice(0, count).reduce((sum, length) => sum + length, 0);
    this.#acked += count;
    this.#onWay -= bytes;
    this.#onAck(bytes);
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
    this.#changed.promise.catch(() => {});
  }
}

interface Point {
  readonly atMs: number;
  readonly bytes: number;
}

/**
 * Measures the way over lanes that were opened for it.
 * @param cap bytes per second that are not to be exceeded
 * @throws GodwitError no-progress when nothing is acknowledged; why a lane was lost
 */
export async function measureWay(
  connections: readonly Connection[],
  cap: number | undefined,
): Promise<MeasuredWay> {
  const points: Point[] = [];
  let acked = 0;
  const lanes = connections.map(
    (connection) =>
      new BallastLane(connection, (bytes) => {
        acked += bytes;
        if (bytes > 0) points.push({ atMs: performance.now(), bytes: acked });
      }),
  );
  const roundTripMs = await roundTrip(lanes[0]!);
  const startedMs = performance.now();
  await sendAll(lanes, cap, startedMs + BALLAST_MS, () => acked > 0);
  if (acked === 0) {
    const text = `the destination acknowledged no frame in ${FIRST_FRAME_MS} ms`;
    throw new GodwitError('no-progress', text);
  }
  return { ...rateOf([{ atMs: startedMs, bytes: 0 }, ...points], cap), roundTripMs };
}

async function roundTrip(lane: BallastLane): Promise<number> {
  const samples: number[] = [];
  const late = () => new GodwitError('no-progress', 'the destination acknowledges no frame');
  for (let i = 0; i < ROUND_TRIPS; i++) {
    const sentMs = performance.now();
    await lane.send(Buffer.alloc(0));
    await within(FIRST_FRAME_MS, lane.drained(), late);
    samples.push(performance.now() - sentMs);
  }
  return samples.sort((a, b) => a - b)[ROUND_TRIPS >> 1]!;
}

/** Until the time is up, or everything is sent and acknowledged. */
async function sendAll(
  lanes: readonly BallastLane[],
  cap: number | undefined,
  untilMs: number,
  begun: () => boolean,
): Promise<void> {
  const frame = randomFillSync(Buffer.allocUnsafeSlow(BALLAST_FRAME)); // nothing on the way makes it shorter
  const pacer = new Pacer(new SharedArrayBuffer(PACER_SIZE));
  pacer.setRate(cap);
  let left = BALLAST_BYTES / BALLAST_FRAME;
  let over = false;
  const pump = async (lane: BallastLane) => {
    while (left > 0 && !over) {
      left--;
      await pacer.pass(frame.length);
      if (!over) await lane.send(frame);
    }
    await lane.drained();
  };
  const sending = Promise.all(lanes.map(pump));
  sending.catch(() => {}); // nobody waits for it when the time is up
  const ends = new AbortController();
  const time = async () => {
    await sleep(Math.max(0, untilMs - performance.now()), undefined, ends);
    over = true;
    const lastMs = performance.now() + FIRST_FRAME_MS - BALLAST_MS;
    while (!begun() && performance.now() < lastMs) await sleep(20, undefined, ends);
  };
  const timing = time();
  timing.catch(() => {}); // called off
  try {
    await Promise.race([sending, timing]);
  } finally {
    over = true;
    ends.abort();
  }
}

/** The rate of the later half, which a connection that was still getting faster does not hold down. */
export function rateOf(
  points: readonly Point[],
  cap = Number.POSITIVE_INFINITY,
): Omit<MeasuredWay, 'roundTripMs'> {
  const [first, last] = [points[0]!, points.at(-1)!];
  const whole = rateBetween(first, last);
  const middle = points.find(({ bytes }) => bytes >= last.bytes / 2)!;
  const later = middle.bytes < last.bytes ? rateBetween(middle, last) : whole;
  const spread = Math.abs(later - whole) / later;
  return {
    rate: Math.min(later, cap),
    spread: Math.min(MAX_SPREAD, Math.max(MIN_SPREAD, spread)),
    bytes: last.bytes,
    ms: last.atMs - first.atMs,
  };
}

function rateBetween(from: Point, to: Point): number {
  return ((to.bytes - from.bytes) / Math.max(0.1, to.atMs - from.atMs)) * 1000;
}
