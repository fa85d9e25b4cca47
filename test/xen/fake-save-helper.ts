import net from 'node:net';
import { pageDataOf, tailOf } from '../stream/xen/builder.ts';
import { at, type Kind, roundsOf } from './fake-xl.ts';

/*
 * `libxl-save-helper --save-domain` without Xen: says what that of Xen 4.17 says, and hears what it hears
 * (tools/libs/light/libxl_save_helper.c). Told to end, it fails at its next write, as EBADF has it; told
 * while it waits for an answer, its read is interrupted, and it ends without cleaning up.
 */
const stream = new net.Socket({ fd: Number(process.argv[3]), readable: false, writable: true });
stream.on('error', () => process.kill(process.pid, 'SIGKILL')); // as of SIGPIPE
let told = false;
let waits = false;
process.on('SIGTERM', () => {
  if (waits) process.exit(254);
  told = true;
});

function text(words: string): Buffer {
  const bytes = Buffer.from(`${words}\0`);
  return Buffer.concat([ints(bytes.length), bytes]);
}

function ints(...values: number[]): Buffer {
  return Buffer.concat(values.map((value) => Buffer.from(Int32Array.of(value).buffer)));
}

function long(value: number): Buffer {
  return Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
}

function say(number: number, ...fields: Buffer[]): Promise<void> {
  const body = Buffer.concat([Buffer.from(Uint16Array.of(number).buffer), ...fields]);
  const length = Buffer.from(Uint16Array.of(body.length).buffer);
  return new Promise((resolve) =>
    process.stdout.write(Buffer.concat([length, body]), () => resolve()),
  );
}

function progress(what: string, done: number, total: number): Promise<void> {
  return say(2, text('xc'), text(what), long(done), long(total));
}

async function reply(): Promise<number> {
  waits = true;
  for await (const bytes of process.stdin) {
    waits = false;
    return (bytes as Buffer).readInt32LE(0);
  }
  process.exit(254); // its libxl is gone
}

async function write(bytes: Buffer): Promise<void> {
  if (told) return complete(-1);
  await new Promise<void>((resolve) => stream.write(bytes, () => resolve()));
}

async function complete(code: number): Promise<never> {
  await say(10, ints(code, code && 9));
  process.exit(0);
}

const kind = (process.env.FAKE_XL_KIND ?? 'pv') as Kind;
await say(1, ints(5, 0), text('libxl-save-helper'), text('starting save'));
const rounds = roundsOf(1);
for (const [i, round] of rounds.entries()) {
  if (i === rounds.length - 1) {
    await say(3);
    if ((await reply()) === 0) await complete(-1);
    await progress('Domain now suspended', 0, 0);
  }
  for (let first = 0; first < round.length; first += 1024) {
    await progress(`Frames iteration ${i}`, first, round.length);
    await write(pageDataOf(round.slice(first, first + 1024)));
  }
  await at(`round-${i}`);
}
await write(tailOf(kind));
await complete(0);
