import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { MigrationView } from '../../lib/migration/view.ts';
import { type CommandResult, runCommand } from '../e2e/daemon.ts';
import { Hosts, type HostsOptions, type Side, until } from '../e2e/hosts.ts';
import { configOf } from '../stream/xen/builder.ts';
import { type Content, contentOf, type Kind, passedOf, roundsOf } from './fake-xl.ts';

const UUID = (JSON.parse(configOf('g1')) as { c_info: { uuid: string } }).c_info.uuid;

/** What Xen 4.17 shows, and what is asked of domains; `migrate` is in fake-xl.ts. */
const PROGRAM = (dir: string, events: string) => `#!/bin/sh
export FAKE_XEN_DIR=${dir} FAKE_XEN_EVENTS=${events}
of() { awk -v id="$1" '$2 == id {print FILENAME}' ${dir}/domains/* | head -1; }
case "$1" in
list)
  echo "Name                                        ID   Mem VCPUs	State	Time(s)   UUID                            Reason-Code	Security Label"
  cat ${dir}/domains/* 2>/dev/null
  exit 0;;
destroy) echo "destroy" >> ${dir}/commands; grep -q -e '-b----' "$(of $2)" && echo "${path.basename(dir)} stands" >> ${events}; rm "$(of $2)";;
resume)
  [ -e ${dir}/no-resume ] && { echo "command not implemented" >&2; exit 1; }
  echo "${path.basename(dir)} runs" >> ${events}
  sed -i 's/ ---ss- / -b---- /' "$(of $2)";;
unpause) echo "${path.basename(dir)} runs" >> ${events}; sed -i 's/ --p--- / -b---- /' "$(of $2)";;
pause) sed -i 's/ -b---- / --p--- /' "$(of $2)";;
rename) sed -i "s/^[^ ]* /$3 /" "$(of $2)";;
*) exec ${process.execPath} ${path.join(import.meta.dirname, 'fake-xl.ts')} "$@";;
esac
`;

/** Two hosts with agents, a fake Xen on each, and domain g1 on the first one. */
export class XenHosts {
  readonly hosts: Hosts;
  readonly #dirs: Readonly<Record<Side, string>>;
  readonly #events: string;
  readonly #started = new Set<ChildProcess>();
  #domid = 6;

  private constructor(hosts: Hosts, dirs: Readonly<Record<Side, string>>, events: string) {
    this.hosts = hosts;
    this.#dirs = dirs;
    this.#events = events;
  }

  static async start(options: Pick<HostsOptions, 'faults'> = {}): Promise<XenHosts> {
    const base = fs.mkdtempSync('/tmp/godwit-xen-');
    const events = path.join(base, 'events');
    const dirs = { source: path.join(base, 'source'), destination: path.join(base, 'destination') };
    for (const dir of Object.values(dirs)) {
      fs.mkdirSync(path.join(dir, 'domains'), { recursive: true });
      fs.writeFileSync(path.join(dir, 'xl'), PROGRAM(dir, events), { mode: 0o755 });
      const helper = `#!/bin/sh\nexec ${process.execPath} ${path.join(import.meta.dirname, 'fake-save-helper.ts')} "$@"\n`;
      fs.writeFileSync(path.join(dir, 'libxl-save-helper'), helper, { mode: 0o755 });
    }
    const hosts = await Hosts.start({
      ...options,
      send: ['--xl', path.join(dirs.source, 'xl')],
      recv: ['--xl', path.join(dirs.destination, 'xl')],
    });
    const xen = new XenHosts(hosts, dirs, events);
    xen.boot();
    return xen;
  }

  /** A guest that runs at the source, and nowhere else. */
  boot(): void {
    for (const side of ['source', 'destination'] as const)
      for (const name of fs.readdirSync(this.#dirs[side]))
        if (/^(at|hold|cannot|no)-/.test(name)) fs.rmSync(path.join(this.#dirs[side], name));
    fs.rmSync(path.join(this.#dirs.destination, 'domains', UUID), { force: true });
    const line = `${'g1'.padEnd(40)} ${String(++this.#domid).padStart(5)}    96     1     -b----       1.0 ${UUID} -                -\n`;
    fs.writeFileSync(path.join(this.#dirs.source, 'domains', UUID), line);
    fs.writeFileSync(this.#events, 'source runs\n');
  }

  /** Begins what a user types. */
  begin(...options: string[]): XlRun {
    return this.beginOf('pv', ...options);
  }

  /** The same of a guest of that kind. */
  beginOf(kind: Kind, ...options: string[]): XlRun {
    return this.#begin({ FAKE_XL_KIND: kind }, options);
  }

  /** The same with agent-send-helper between xl and its save helper. */
  beginHelped(...options: string[]): XlRun {
    return this.#begin(this.#helped, options);
  }

  #begin(env: NodeJS.ProcessEnv, options: readonly string[]): XlRun {
    const { places } = this.hosts.source;
    const main = path.join(import.meta.dirname, '../../agent-send/main.ts');
    const where = ['--guest-dir', places.guestDir, '--socket', places.sockets.send];
    const rune = [process.execPath, main, 'xl', ...where, ...options].join(' ');
    const xl = path.join(this.#dirs.source, 'xl');
    const child = spawn(xl, ['migrate', '-s', rune, 'g1', this.hosts.target], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, ...env },
    });
    this.#started.add(child);
    return new XlRun(child);
  }

  /** Runs a command of agent-send where xl is the fake one, and its save helper, too. */
  run(args: readonly string[]): Promise<CommandResult> {
    const env = { PATH: `${this.#dirs.source}:${process.env.PATH}`, ...this.#helped };
    return runCommand(
      'agent-send',
      [...args, '--socket', this.hosts.source.places.sockets.send],
      this.hosts.source.places.dir,
      env,
    );
  }

  get #helped(): NodeJS.ProcessEnv {
    return {
      LIBXL_SAVE_HELPER: path.join(import.meta.dirname, '../../agent-send/agent-send-helper'),
      GODWIT_SAVE_HELPER: path.join(this.#dirs.source, 'libxl-save-helper'),
      GODWIT_GUEST_DIR: this.hosts.source.places.guestDir,
    };
  }

  /** Keeps the fake xl of that side there, until `goOn`. */
  hold(side: Side, point: string): void {
    fs.writeFileSync(path.join(this.#dirs[side], `hold-${point}`), '');
  }

  goOn(side: Side, point: string): void {
    fs.rmSync(path.join(this.#dirs[side], `hold-${point}`), { force: true });
  }

  /** Resolves when it is there. */
  async at(side: Side, point: string, why = ''): Promise<void> {
    const file = path.join(this.#dirs[side], `at-${point}`);
    await until(() => fs.existsSync(file), `xl at the ${side} is at ${point}\n${why}${this.log}`);
  }

  /** Things that a fake Xen has not, or does not do. */
  set(side: Side, what: 'no-resume' | 'cannot-run', on = true): void {
    const file = path.join(this.#dirs[side], what);
    if (on) fs.writeFileSync(file, '');
    else fs.rmSync(file, { force: true });
  }

  /** As `xl list` shows it: name and state; undefined when there is none. */
  domain(side: Side): { name: string; state: string } | undefined {
    const file = path.join(this.#dirs[side], 'domains', UUID);
    if (!fs.existsSync(file)) return undefined;
    const [name, , , , state] = fs.readFileSync(file, 'utf8').split(/ +/);
    return { name: name!, state: state! };
  }

  /** The destination has what the source sent, in its own grouping. */
  mustBeWhole(kind: Kind = 'pv'): void {
    const file = path.join(this.#dirs.destination, 'content.json');
    const content = JSON.parse(fs.readFileSync(file, 'utf8')) as Content;
    assert.deepEqual(content, contentOf(roundsOf(1), passedOf(kind)));
  }

  /** It runs there under its name, nothing of it is elsewhere, and it never ran on both. */
  async mustRunAt(side: Side, why = ''): Promise<void> {
    const other = side === 'source' ? 'destination' : 'source';
    const settled = () => {
      const here = this.domain(side);
      return here?.name === 'g1' && here.state === '-b----' && this.domain(other) === undefined;
    };
    const seen = () => JSON.stringify([this.domain('source'), this.domain('destination')]);
    await until(settled, `g1 runs at its ${side} alone\n${why}${this.log}`).catch((error) => {
      throw new Error(`${error.message}\n${seen()}`);
    });
    this.mustNeverHaveRunTwice(side);
  }

  /** The same wherever it has ended. */
  async mustRunSomewhere(): Promise<void> {
    const runs = (side: Side) => this.domain(side)?.state === '-b----';
    await until(() => runs('source') || runs('destination'), `g1 runs\n${this.log}`);
    await this.mustRunAt(runs('source') ? 'source' : 'destination');
  }

  /** It was never suspended. */
  mustNeverHaveStood(): void {
    assert.equal(fs.readFileSync(this.#events, 'utf8'), 'source runs\n');
  }

  mustNeverHaveRunTwice(last: Side): void {
    const lines = fs.readFileSync(this.#events, 'utf8').trim().split('\n');
    const running = new Set<string>();
    for (const [i, line] of lines.entries()) {
      const [host, what] = line.split(' ') as [string, string];
      if (what === 'runs') running.add(host);
      else running.delete(host);
      assert(running.size < 2, `it ran twice at line ${i}:\n${lines.join('\n')}`);
    }
    assert.deepEqual([...running], [last], lines.join('\n'));
  }

  /** That agent has died. */
  async gone(role: 'send' | 'recv'): Promise<void> {
    const daemon = role === 'send' ? this.hosts.send : this.hosts.recv;
    await until(() => !daemon.alive, `agent-${role} dies\n${this.log}`);
  }

  async waitsFor(words: RegExp): Promise<void> {
    const says = async () => words.test((await this.view()).waitsFor ?? '');
    await until(says, `the migration waits for ${words}\n${this.log}`);
  }

  /** The migration has ended, whatever xl does. */
  async over(): Promise<void> {
    const over = async () => (await this.view()).outcome !== undefined;
    await until(over, `the migration is over\n${this.log}`);
  }

  /** Neither side has anything left to do, and nothing of the move is left in files. */
  async mustHaveEnded(): Promise<void> {
    const { source, destination } = this.hosts;
    const ended = async () => {
      const views = [...(await source.list('send')), ...(await destination.list('recv'))];
      return views.every(({ phase }) => phase === 'ended');
    };
    await until(ended, `all migrations have ended\n${this.log}`);
    const left = () =>
      [source.places.guestDir, destination.places.guestDir, destination.places.ramDir].flatMap(
        // A transport that was killed leaves sockets, which the next one replaces.
        (dir) => fs.readdirSync(dir).filter((name) => !/\.xl(?:-stream)?$/.test(name)),
      );
    await until(() => left().length === 0, `nothing is left of it: ${left()}\n${this.log}`);
    const holds = () => holdersOf(destination.places.guestDir).join(', ');
    await until(() => holds() === '', `nobody has a pipe of it: ${holds()}\n${this.log}`);
  }

  async view(): Promise<MigrationView> {
    const views = await this.hosts.source.list('send');
    return views.toSorted((a, b) => (a.startedAt < b.startedAt ? 1 : -1))[0]!;
  }

  get log(): string {
    return [this.hosts.source.send.log, this.hosts.destination.recv.log].join('\n--\n');
  }

  async end(): Promise<void> {
    for (const child of this.#started) child.kill('SIGKILL');
    await this.hosts.end();
    fs.rmSync(path.dirname(this.#events), { recursive: true });
  }
}

/** An `xl migrate` that runs. */
export class XlRun {
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | null>;
  said = '';

  constructor(child: ChildProcess) {
    this.#child = child;
    child.stderr!.on('data', (text) => {
      this.said += text;
    });
    this.#ended = new Promise((resolve) => child.once('exit', resolve));
  }

  /** Its exit code. */
  async ended(): Promise<number | null> {
    let code: number | null | undefined;
    void this.#ended.then((exit) => {
      code = exit;
    });
    await until(() => code !== undefined, `xl ends\n${this.said}`);
    return code!;
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** The `agent-send xl` that it runs. */
  async transport(): Promise<number> {
    const isIts = (pid: string) => {
      const read = (name: string) => fs.readFileSync(`/proc/${pid}/${name}`, 'latin1');
      try {
        return (
          read('status').includes(`\nPPid:\t${this.pid}\n`) && read('cmdline').includes('main.ts')
        );
      } catch {
        return false;
      }
    };
    const found = () => fs.readdirSync('/proc').find((name) => /^\d+$/.test(name) && isIts(name));
    await until(() => found() !== undefined, 'agent-send xl runs');
    return Number(found());
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}

/** Processes that have something open in a directory, also what was removed there. */
function holdersOf(dir: string): string[] {
  return fs.readdirSync('/proc').filter((pid) => {
    try {
      const fds = fs.readdirSync(`/proc/${pid}/fd`);
      return fds.some((fd) => fs.readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith(`${dir}/`));
    } catch {
      return false; // no process, or one that has just ended
    }
  });
}

/** The `xl migrate-receive` of a destination. */
export function receiverOf(guestDir: string): number {
  const input = path.join(guestDir, 'g1.xl-receive', 'in');
  const isIts = (pid: string) => {
    try {
      const command = fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1');
      return command.includes('migrate-receive') && fs.readlinkSync(`/proc/${pid}/fd/0`) === input;
    } catch {
      return false;
    }
  };
  return Number(fs.readdirSync('/proc').find((name) => /^\d+$/.test(name) && isIts(name)));
}
