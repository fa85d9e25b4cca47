import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { constants, zstdCompressSync } from 'node:zlib';
import { DeviceTail } from '../../../lib/stream/qemu/device-tail.ts';
import { StreamParser } from '../../../lib/stream/qemu/parser.ts';
import { pong, shut } from '../../../lib/stream/qemu/return-path.ts';

/**
 * Records the captures that the tests of the stream read, from real QEMUs whose guest never ran:
 *
 *     node test/stream/qemu/capture.ts
 *
 * It answers on the return path as a destination would, and stops at the first thing that goes
 * another way than the tests expect.
 */

const CAPTURES = join(import.meta.dirname, 'captures');

/** Each capture stays small in the repository. */
const MOST_BYTES = 100_000;

const QEMU = {
  '7.2': ['/opt/godwit-qemu/7.2/qemu-system-x86_64', '/opt/qemu-7.2/usr/bin/qemu-system-x86_64'],
  '10.0': ['/opt/godwit-qemu/10.0/qemu-system-x86_64', '/opt/qemu-10/usr/bin/qemu-system-x86_64'],
};

/** Nothing that the machine does not need: each device is some KB of state; qboot is small. */
const BARE = ['-nodefaults', '-display', 'none', '-S', '-qmp', 'stdio', '-bios', 'qboot.rom'];
const VIRTIO = ['-device', 'virtio-rng-pci', '-device', 'virtio-serial-pci'];
const MICROVM = ['-machine', 'microvm,acpi=off,pit=off,rtc=off', '-m', '1M'];
const BACKEND = ['-object', 'memory-backend-ram,id=ram,size=8M', '-m', '8M'];
const Q35 = ['-machine', 'q35,memory-backend=ram', ...BACKEND];
const VIRTIO_MEM = [
  ...['-object', 'memory-backend-ram,id=vm0,size=128M'],
  ...['-m', '8M,maxmem=256M', '-device', 'virtio-mem-pci,memdev=vm0,node=0,requested-size=0'],
];

interface Recording {
  readonly name: string;
  readonly qemu: keyof typeof QEMU;
  readonly options: readonly string[];
  /** Capabilities beside return-path; with them the parser refuses the stream. */
  readonly capabilities?: readonly string[];
}

const TAKEN: readonly Recording[] = [
  { name: 'microvm-7.2', qemu: '7.2', options: MICROVM },
  { name: 'microvm-10.0', qemu: '10.0', options: MICROVM },
  { name: 'pc-7.2', qemu: '7.2', options: ['-machine', 'pc', '-m', '4M'] },
  { name: 'q35-7.2', qemu: '7.2', options: [...Q35, ...VIRTIO] },
  { name: 'q35-10.0', qemu: '10.0', options: [...Q35, ...VIRTIO] },
  { name: 'q35-7.2-on-10.0', qemu: '10.0', options: ['-machine', 'pc-q35-7.2', '-m', '16M'] },
];

const REFUSED: readonly Recording[] = [
  { name: 'ignore-shared', qemu: '10.0', options: MICROVM, capabilities: ['x-ignore-shared'] },
  { name: 'postcopy', qemu: '10.0', options: MICROVM, capabilities: ['postcopy-ram'] },
  { name: 'dirty-bitmaps', qemu: '7.2', options: MICROVM, capabilities: ['dirty-bitmaps'] },
  { name: 'compress', qemu: '7.2', options: Q35, capabilities: ['compress'] },
  { name: 'multifd', qemu: '10.0', options: Q35, capabilities: ['multifd'] },
  { name: 'virtio-mem', qemu: '10.0', options: ['-machine', 'q35', ...VIRTIO_MEM] },
];

/** Sends one QMP command and waits for its answer. */
type Ask = (execute: string, parameters?: object) => Promise<Record<string, unknown>>;

function askOver(child: ReturnType<typeof startQemu>): Ask {
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return async (execute, parameters = {}) => {
    child.stdin.write(`${JSON.stringify({ execute, arguments: parameters })}\n`);
    for (;;) {
      const { value, done } = await lines.next();
      if (done) throw new Error(`QEMU is gone; ${execute} was not answered`);
      const answer = JSON.parse(value);
      if (answer.error) throw new Error(`${execute}: ${answer.error.desc}`);
      if (answer.return) return answer.return;
    }
  };
}

function startQemu({ qemu, options }: Recording) {
  const program = QEMU[qemu].find(existsSync);
  if (program === undefined) throw new Error(`there is no QEMU ${qemu} here`);
  return spawn(program, [...BARE, ...options], { stdio: ['pipe', 'pipe', 'inherit'] });
}

/** What QEMU sent, and why the parser refused it, if it did. */
interface Received {
  readonly stream: Buffer;
  readonly refusal?: Error;
}

/** Plays the destination on a connection from QEMU, until it closes or is refused. */
async function receive(connection: Socket): Promise<Received> {
  const tail = new DeviceTail();
  const parser = new StreamParser({
    blocks: () => {},
    page: () => {},
    zero: () => {},
    command: (_command, payload) => {
      if (payload.length === 4) connection.write(pong(payload.readUInt32BE()));
    },
    ramEnded: () => {},
    tail: (bytes) => tail.add(bytes),
  });
  const all: Buffer[] = [];
  let answered = false;
  for await (const bytes of connection as AsyncIterable<Buffer>) {
    all.push(bytes);
    try {
      parser.feed(bytes);
    } catch (error) {
      return { stream: Buffer.concat(all), refusal: error as Error };
    }
    if (!tail.complete || answered) continue;
    connection.write(shut(0));
    answered = true;
  }
  if (!answered) throw new Error('QEMU closed before its device state was complete');
  return { stream: Buffer.concat(all) };
}

async function record(recording: Recording): Promise<Received> {
  const directory = mkdtempSync(join(tmpdir(), 'godwit-capture-'));
  const server = createServer().listen(join(directory, 'stream'));
  await once(server, 'listening');
  const child = startQemu(recording);
  try {
    const ask = askOver(child);
    await ask('qmp_capabilities');
    const names = ['return-path', ...(recording.capabilities ?? [])];
    const capabilities = names.map((capability) => ({ capability, state: true }));
    await ask('migrate-set-capabilities', { capabilities });
    const connected = once(server, 'connection');
    await ask('migrate', { uri: `unix:${join(directory, 'stream')}` });
    const [connection] = await connected;
    const received = await receive(connection);
    if (received.refusal === undefined) await completion(ask);
    return received;
  } finally {
    child.kill('SIGKILL');
    server.close();
    rmSync(directory, { recursive: true });
  }
}

async function completion(ask: Ask): Promise<void> {
  for (;;) {
    const { status } = await ask('query-migrate');
    if (status === 'completed') return;
    if (status === 'failed' || status === 'cancelled') throw new Error(`QEMU says ${status}`);
  }
}

function save(name: string, stream: Buffer): void {
  const params = { [constants.ZSTD_c_compressionLevel]: 19 };
  const file = zstdCompressSync(stream, { params });
  console.log(`${name}: ${stream.length} bytes, compressed ${file.length}`);
  if (file.length > MOST_BYTES) throw new Error(`${name} is too large for the repository`);
  writeFileSync(join(CAPTURES, `${name}.bin.zst`), file);
}

for (const recording of TAKEN) {
  const { stream, refusal } = await record(recording);
  if (refusal !== undefined) throw refusal;
  save(recording.name, stream);
}
for (const recording of REFUSED) {
  const { stream, refusal } = await record(recording);
  if (refusal === undefined) throw new Error(`${recording.name} was not refused`);
  console.log(refusal.message);
  save(`refused-${recording.name}`, stream);
}
