import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { GodwitError } from '../../errors.ts';
import { formatDuration } from '../../units.ts';
import { lastLines } from '../last-lines.ts';
import type { RunState } from '../run-state.ts';
import { resumeByBindings } from './bindings.ts';

const run = promisify(execFile);

/** Of a host that has Xen. */
const PROGRAMS = ['/usr/sbin/xl', '/usr/bin/xl'];
/** xl waits for xenstored, and where it changes a domain for a lock that it holds while it makes one. */
const LIST_LIMIT_MS = 5_000;
const ACT_LIMIT_MS = 40_000;
/** A line for each domain. */
const MOST_BYTES = 1 << 20;

/** What xl says to a command that it does not have. */
const NO_COMMAND = /command not implemented/;

/** A domain as `xl list -v` shows it. */
export interface XlDomain {
  readonly name: string;
  readonly domid: number;
  readonly uuid: string;
  readonly memoryBytes: number;
  readonly state: RunState;
}

/** Name, id, MiB, vCPUs, state, seconds, UUID (list_domains in tools/xl/xl_info.c). */
const LINE =
  /^(\S+) +(\d+) +(\d+) +\d+ +([r-][b-][p-][s-][-rscwS?][d-]) +[\d.]+ +([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b/;

/** Why a domain was shut down, by its letter; the others have ended by themselves. */
const REASONS: Readonly<Record<string, RunState>> = {
  s: 'migrated',
  c: 'panicked',
  w: 'watchdog',
};

/** The program that Xen's hosts are operated with. Every call starts it once, and has a time limit. */
export class Xl {
  readonly program: string;

  constructor(program: string) {
    this.program = program;
  }

  /** @param program of the operator's choice; else where hosts have it; undefined: this is no host of Xen */
  static on(program: string | undefined): Xl | undefined {
    const found = program ?? PROGRAMS.find((one) => existsSync(one));
    return found === undefined ? undefined : new Xl(found);
  }

  /** All domains but the first, and but those that are being torn down. @throws GodwitError not-seen */
  async list(): Promise<XlDomain[]> {
    const text = await this.#run(['list', '-v'], LIST_LIMIT_MS, 'not-seen');
    const [head = '', ...lines] = text.split('\n');
    if (!/^Name .*\bUUID\b/.test(head))
      throw new GodwitError('not-seen', `${this.program} list -v shows no list of domains`);
    return lines.flatMap((line) => domainOf(line));
  }

  /** By its UUID. @throws GodwitError not-seen, also when there are several */
  async domain(uuid: string): Promise<XlDomain | undefined> {
    const [found, ...others] = (await this.list()).filter((one) => one.uuid === uuid);
    if (others.length === 0) return found;
    const names = [found!, ...others].map(({ name }) => name).join(' and ');
    throw new GodwitError('not-seen', `this host has several domains with one UUID: ${names}`);
  }

  /** @throws GodwitError hypervisor-failed with xl's last words */
  async destroy(domid: number): Promise<void> {
    await this.#run(['destroy', String(domid)], ACT_LIMIT_MS, 'hypervisor-failed');
  }

  /** Of a domain that was suspended. Xen before 4.20 has no such command, but bindings. @throws as `destroy` */
  async resume(domid: number): Promise<void> {
    try {
      await this.#run(['resume', String(domid)], ACT_LIMIT_MS, 'hypervisor-failed');
    } catch (error) {
      if (!NO_COMMAND.test((error as Error).message)) throw error;
      await resumeByBindings(domid, ACT_LIMIT_MS);
    }
  }

  /** @throws as `destroy` */
  async rename(domid: number, name: string): Promise<void> {
    await this.#run(['rename', String(domid), name], ACT_LIMIT_MS, 'hypervisor-failed');
  }

  /** Of one that was only paused. @throws as `destroy` */
  async unpause(domid: number): Promise<void> {
    await this.#run(['unpause', String(domid)], ACT_LIMIT_MS, 'hypervisor-failed');
  }

  /** @throws as `destroy` */
  async pause(domid: number): Promise<void> {
    await this.#run(['pause', String(domid)], ACT_LIMIT_MS, 'hypervisor-failed');
  }

  async #run(
    args: readonly string[],
    limitMs: number,
    code: 'not-seen' | 'hypervisor-failed',
  ): Promise<string> {
    try {
      const limits = { timeout: limitMs, killSignal: 'SIGKILL' as const, maxBuffer: MOST_BYTES };
      return (await run(this.program, [...args], limits)).stdout;
    } catch (cause) {
      const {
        killed,
        stderr = '',
        message,
      } = cause as Error & { killed?: boolean; stderr?: string };
      const words = lastLines(stderr, 2) || message;
      const why = killed ? `did not end within ${formatDuration(limitMs)}` : `failed: ${words}`;
      throw new GodwitError(code, `${this.program} ${args.join(' ')} ${why}`, { cause });
    }
  }
}

function domainOf(line: string): XlDomain[] {
  const [, name, domid, mib, flags, uuid] = LINE.exec(line) ?? [];
  if (name === undefined || domid === '0' || flags![5] === 'd') return [];
  const memoryBytes = Number(mib) * 2 ** 20;
  return [{ name, domid: Number(domid), uuid: uuid!, memoryBytes, state: stateOf(flags!) }];
}

function stateOf(flags: string): RunState {
  if (flags[3] === 's') return REASONS[flags[4]!] ?? 'shut-down';
  return flags[2] === 'p' ? 'paused' : 'running';
}
