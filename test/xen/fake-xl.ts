import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import type { Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  configOf,
  END,
  join,
  PAGE,
  type Page,
  pageDataOf,
  pagesFrom,
  prologueOf,
  tailOf,
} from '../stream/xen/builder.ts';

/*
 * `xl migrate` and `xl migrate-receive` without Xen: processes that say and do what those of Xen 4.17 do
 * (tools/xl/xl_migrate.c), with a synthesised guest. A domain is a line of `xl list -v` in a file; what it
 * does is written into a file that both hosts share, so that a test can tell that it never ran twice.
 */

const DIR = process.env.FAKE_XEN_DIR!;
const EVENTS = process.env.FAKE_XEN_EVENTS!;
const BANNER = 'xl migration receiver ready, send binary domain data.\n';
const READY = 'domain received, ready to unpause\0';
const GO = 'domain is yours, you are cleared to unpause\0';
const REPORT = 'my copy unpause results are as follows\0';
const UUID = (JSON.parse(configOf('g1')) as { c_info: { uuid: string } }).c_info.uuid;

/** What a domain is in the end, whoever has it: its pages, what they are, and all else. */
export interface Content {
  readonly pages: string;
  readonly passed: string;
}

/** Rounds of libxc: all of memory, four smaller ones, and the last, in which some pages are other things. */
export function roundsOf(seed: number): Page[][] {
  const all = pagesFrom(0, 3000).map(([pfn, , fill]): Page => {
    const table = pfn % 100 === 7 ? 1 + (pfn % 4) : 0;
    return [pfn, pfn % 500 === 499 ? 0xf : pfn % 300 === 20 ? 0x9 : table, (fill! + seed) & 0xff];
  });
  const some = (round: number, count: number) =>
    Array.from({ length: count }, (_, i): Page => {
      const pfn = (i * 37 + round) % 3000;
      return [pfn, i % 11 === 3 ? 0xf : i % 7 === 2 ? 1 : 0, (pfn + seed + 3 * round) & 0xff];
    }).sort(([a], [b]) => a - b);
  return [all, ...[1, 2, 3, 4].map((round) => some(round, 60 - 10 * round)), some(9, 70)];
}

export function contentOf(rounds: readonly (readonly Page[])[], passed: Buffer): Content {
  const last = new Map<number, Page>();
  for (const page of rounds.flat()) last.set(page[0], page);
  const texts = [...last.values()]
    .sort(([a], [b]) => a - b)
    .map(([pfn, type, fill]) => `${pfn} ${type} ${type < 0xd ? fill : '-'}`);
  const digest = (what: string | Buffer) => createHash('sha256').update(what).digest('hex');
  return { pages: digest(texts.join('\n')), passed: digest(passed) };
}

export type Kind = 'pv' | 'hvm' | 'pvh';

/** All that is no page, as a source sends it. */
export const passedOf = (kind: Kind) => join(prologueOf(kind), tailOf(kind));

function file(uuid = UUID): string {
  return path.join(DIR, 'domains', uuid);
}

/** A domain that is here keeps its number. */
function setDomain(name: string, flags: string): void {
  const had = fs.existsSync(file()) ? fs.readFileSync(file(), 'utf8').split(/ +/)[1] : undefined;
  const domid = had ?? String(100 + (process.pid % 30_000));
  const line = `${name.padEnd(40)} ${domid.padStart(5)}    96     1     ${flags}       1.0 ${UUID} -                -\n`;
  fs.writeFileSync(`${file()}.new`, line);
  fs.renameSync(`${file()}.new`, file());
}

function event(what: 'runs' | 'stands'): void {
  fs.appendFileSync(EVENTS, `${path.basename(DIR)} ${what}\n`);
}

/** Waits there as long as a test wants it to. */
export async function at(point: string): Promise<void> {
  fs.writeFileSync(path.join(DIR, `at-${point}`), '');
  while (fs.existsSync(path.join(DIR, `hold-${point}`))) await sleep(20);
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** Bytes of a pipe, read in pieces of known lengths. */
class Reader {
  readonly #stream: NodeJS.ReadableStream;
  #bytes = Buffer.alloc(0);
  #ended = false;
  #wake = () => {};

  constructor(stream: NodeJS.ReadableStream) {
    this.#stream = stream;
    stream.on('data', (piece: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, piece]);
      if (this.#bytes.length > 1 << 20) stream.pause();
      this.#wake();
    });
    const end = () => {
      this.#ended = true;
      this.#wake();
    };
    stream.on('end', end).on('error', end).on('close', end);
  }

  /** Undefined when there are not so many any more. */
  async take(n: number): Promise<Buffer | undefined> {
    while (this.#bytes.length < n) {
      if (this.#ended) return undefined;
      this.#stream.resume();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const taken = this.#bytes.subarray(0, n);
    this.#bytes = this.#bytes.subarray(n);
    return taken;
  }

  async must(text: string): Promise<boolean> {
    return (await this.take(text.length))?.equals(Buffer.from(text, 'latin1')) ?? false;
  }
}

async function migrate(rune: string, name: string, host: string): Promise<number> {
  const child = spawn('sh', ['-c', `exec ${rune} ${host} xl migrate-receive`], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  child.stdin.on('error', () => {}); // xl ignores SIGPIPE, and is told by EPIPE
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const reader = new Reader(child.stdout);
  let broken = false;
  void exited.then(() => {
    broken = true;
  });
  const write = async (bytes: Buffer) => {
    if (broken) return false;
    const done = new Promise<boolean>((resolve) =>
      child.stdin.write(bytes, (error) => resolve(!error)),
    );
    return Promise.race([done, exited.then(() => false)]);
  };
  const end = () => Promise.race([exited, sleep(2000)]);
  const resume = async (why: string) => {
    child.stdin.destroy();
    await end();
    say(`Migration failed, ${why}.`);
    if (!fs.readFileSync(file(), 'utf8').includes(' -b---- ')) {
      event('runs');
      setDomain(name, '-b----');
    }
    return 1;
  };
  const handOver = async (saved: boolean) => {
    if (!saved || !(await reader.must(READY))) return resume('resuming at sender');
    say('migration sender: Target has acknowledged transfer.');
    setDomain(`${name}--migratedaway`, '---ss-');
    say('migration sender: Giving target permission to start.');
    await at('before-go');
    if (!(await write(Buffer.from(GO)))) return undefinedState();
    await at('after-go');
    if (!(await reader.must(REPORT))) return undefinedState();
    const code = (await reader.take(1))?.[0];
    if (code === undefined) return undefinedState();
    if (code !== 0) {
      say(`migration sender: Target reports startup failure (status code ${code}).`);
      if (!(await reader.must(GO))) return undefinedState();
      event('runs');
      setDomain(name, '-b----');
      say('migration sender: Resumed OK.');
      return 1;
    }
    say('migration sender: Target reports successful startup.');
    await at('destroy');
    fs.rmSync(file());
    say('Migration successful.');
    return 0;
  };
  if (!(await reader.must(BANNER))) {
    child.stdin.destroy();
    await end();
    return 1;
  }
  const program = process.env.LIBXL_SAVE_HELPER;
  if (program !== undefined) {
    await write(prologueOf((process.env.FAKE_XL_KIND ?? 'pv') as Kind, name)); // as far as xl writes it itself
    const saved = await saveBy(program, child.stdin, name);
    if (saved === 'runs') {
      child.stdin.destroy();
      await end();
      say('Migration failed, failed to suspend at sender.');
      return 1;
    }
    return handOver(saved === 'saved');
  }
  // The helper's name and its first argument are what it is found by.
  const helper = spawn('bash', [
    '-c',
    `exec -a libxl-save-helper perl -e "sleep 1 while getppid() == ${process.pid}" -- --save-domain`,
  ]);
  let told = false;
  helper.once('exit', (_, signal) => {
    told = signal === 'SIGTERM';
    if (told) void at('told');
  });
  const quit = () => helper.kill('SIGKILL');
  process.once('exit', quit);
  const save = async (): Promise<boolean> => {
    const rounds = roundsOf(Number(process.env.FAKE_XL_SEED ?? 1));
    const kind = (process.env.FAKE_XL_KIND ?? 'pv') as Kind;
    if (!(await write(prologueOf(kind, name)))) return false;
    for (const [i, round] of rounds.entries()) {
      if (i === rounds.length - 1) {
        await at('suspend');
        if (told) return false;
        event('stands');
        setDomain(name, '---ss-');
        await at('suspended');
      }
      for (let first = 0; first < round.length; first += 1024) {
        if (told) return false;
        if (!(await write(pageDataOf(round.slice(first, first + 1024))))) return false;
      }
      await at(`round-${i}`);
    }
    const tail = tailOf(kind);
    await at('tail');
    return (await write(tail.subarray(0, -END.length))) && write(END);
  };
  const saved = await save();
  if (told) {
    // rc -8, as of a guest that has not suspended: nothing is resumed, since nothing stands
    child.stdin.destroy();
    await end();
    say('Migration failed, failed to suspend at sender.');
    return 1;
  }
  quit();
  return handOver(saved);
}

/** As libxl saves by a helper: what that asks for is done, and how it ended is its last word. */
async function saveBy(
  program: string,
  stream: Writable,
  name: string,
): Promise<'saved' | 'runs' | 'stands'> {
  const helper = spawn(program, ['--save-domain', '3', '-1', '7', '1', '136', '0'], {
    stdio: ['pipe', 'pipe', 'inherit', stream],
  });
  helper.stdin!.on('error', () => {});
  let bytes = Buffer.alloc(0);
  let stands = false;
  let code: number | undefined;
  const asked = async () => {
    await at('suspend');
    stands = true;
    event('stands');
    setDomain(name, '---ss-');
    await at('suspended');
    helper.stdin!.write(Buffer.from([1, 0, 0, 0]));
  };
  helper.stdout!.on('data', (piece: Buffer) => {
    bytes = Buffer.concat([bytes, piece]);
    while (bytes.length >= 2 && bytes.length >= 2 + bytes.readUInt16LE(0)) {
      const number = bytes.readUInt16LE(2);
      if (number === 3) void asked();
      if (number === 10) code = bytes.readInt32LE(4);
      bytes = bytes.subarray(2 + bytes.readUInt16LE(0));
    }
  });
  await new Promise((resolve) => helper.once('close', resolve));
  if (code === 0) return 'saved';
  // Of one that ends without a word xl knows nothing, and has a guest resumed that may be running.
  return stands || code === undefined ? 'stands' : 'runs';
}

function undefinedState(): number {
  say('** Migration failed during final handshake **\nDomain state is now undefined !');
  return 1;
}

/** Reads a stream of the shape that `migrate` sends, record by record; undefined: it ended too early. */
async function load(reader: Reader): Promise<Content | undefined> {
  const passed: Buffer[] = [];
  const pages: Page[] = [];
  const take = async (n: number) => {
    const bytes = await reader.take(n);
    if (bytes === undefined) throw new Error('the stream breaks off');
    return bytes;
  };
  const pass = async (n: number) => {
    const bytes = Buffer.from(await take(n));
    passed.push(bytes);
    return bytes;
  };
  const xl = await pass(48);
  const config = await pass(xl.readUInt32LE(44));
  const { c_info } = JSON.parse(config.toString('utf8', 4).split('\0')[0]!);
  setDomain(`${c_info.name}--incoming`, '--p---');
  await at('loading');
  await pass(16);
  for (let layer = 'libxl'; ; ) {
    const head = Buffer.from(await take(8));
    const [type, length] = [head.readUInt32LE(0), Math.ceil(head.readUInt32LE(4) / 8) * 8];
    if (layer === 'libxc' && type === 1) {
      const count = (await take(8)).readUInt32LE(0);
      const words = Buffer.from(await take(8 * count));
      for (let i = 0; i < count; i++) {
        const word = words.readBigUInt64LE(8 * i);
        const [pfn, kind] = [Number(word & 0xf_ffff_ffff_ffffn), Number(word >> 60n)];
        const bytes = kind < 13 ? await take(PAGE) : undefined;
        if (bytes && !bytes.equals(Buffer.alloc(PAGE, bytes[0])))
          throw new Error(`torn page ${pfn}`);
        pages.push([pfn, kind, bytes?.[0] ?? 0]);
      }
      continue;
    }
    passed.push(head);
    await pass(length);
    if (layer === 'libxl' && type === 0) break;
    if (layer === 'libxl' && type === 1) {
      layer = 'libxc';
      await pass(40);
    } else if (layer === 'libxc' && type === 0) layer = 'libxl';
  }
  return contentOf([pages], join(...passed));
}

async function receive(): Promise<number> {
  say('migration target: Ready to receive domain.');
  const write = (bytes: string) =>
    new Promise<void>((resolve) =>
      process.stdout.write(Buffer.from(bytes, 'latin1'), () => resolve()),
    );
  const reader = new Reader(process.stdin);
  await write(BANNER);
  // It has the pipe as long as it restores, and outlives an xl that is killed meanwhile.
  const helper = spawn('sleep', ['600'], { stdio: ['inherit', 'ignore', 'ignore'] });
  let content: Content | undefined;
  try {
    content = await load(reader);
    helper.kill();
  } catch (error) {
    helper.kill();
    say(`migration target: Domain creation failed (${(error as Error).message}).`);
    fs.rmSync(file(), { force: true });
    return 1;
  }
  fs.writeFileSync(path.join(DIR, 'content.json'), JSON.stringify(content));
  await at('before-ready');
  await write(READY);
  await at('ready');
  if (!(await reader.must(GO))) {
    await write(`${REPORT}\x01`);
    fs.rmSync(file());
    await write(GO);
    return 1;
  }
  await at('got-go');
  if (fs.existsSync(path.join(DIR, 'cannot-run'))) {
    await write(`${REPORT}\x03`);
    fs.rmSync(file());
    await write(GO);
    return 1;
  }
  event('runs');
  setDomain('g1', '-b----');
  await at('before-report');
  await write(`${REPORT}\0`);
  return 0;
}

async function main([command, ...args]: readonly string[]): Promise<number> {
  if (command === 'migrate-receive') return receive();
  const [option, rune, name, host] = args;
  if (command !== 'migrate' || option !== '-s') throw new Error(`no such command: ${command}`);
  return migrate(rune!, name!, host!);
}

if (import.meta.main) process.exit(await main(process.argv.slice(2)));
