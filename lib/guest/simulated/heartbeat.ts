import { readFileSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import {
  firstTick,
  type HeartbeatState,
  type Instant,
  NO_HEARTBEAT,
  tick,
} from './heartbeat-clock.ts';
import { Mailbox, type MailboxEnds } from './mailbox.ts';

/** Also the resolution of a measured suspension. */
const TICK_MS = 2;

const mailbox = new Mailbox((workerData as { mailbox: MailboxEnds }).mailbox);
const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
let state: HeartbeatState = NO_HEARTBEAT;
let running = false;

for (;;) {
  if (mailbox.called) mailbox.serve(obey);
  else if (running) state = tick(state, now());
  mailbox.wait(running ? TICK_MS : Number.POSITIVE_INFINITY);
}

function obey(operation: string, argument: unknown): HeartbeatState {
  if (operation === 'run' && !running) state = firstTick(state, now());
  if (operation === 'run') running = true;
  if (operation === 'pause') running = false;
  if (operation === 'load') state = argument as HeartbeatState;
  return state;
}

function now(): Instant {
  return { monotonic: Number(process.hrtime.bigint()) / 1e6, realtime: Date.now(), bootId };
}
