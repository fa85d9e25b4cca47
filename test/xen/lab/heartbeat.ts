import assert from 'node:assert/strict';
import { type Running, until, type XenHost } from './host.ts';

export interface Beat {
  readonly number: number;
  readonly host: string;
  /** When this machine heard it, ms. */
  readonly atMs: number;
}

/** What is said on both hosts by the guest itself, in the order in which it is heard: the witness. */
export class Heartbeat {
  readonly beats: Beat[] = [];
  readonly #listening: Running[];
  #broken = '';

  constructor(hosts: readonly XenHost[]) {
    this.#listening = hosts.map((host) => {
      let rest = '';
      return host.begin('follow /var/log/xen/console', (text) => {
        const lines = (rest + text).split('\n');
        rest = lines.pop()!;
        for (const line of lines) this.#hear(line, host.name);
      });
    });
  }

  get last(): Beat | undefined {
    return this.beats.at(-1);
  }

  /** Resolves when it has beaten so often from now on, on that host. */
  async beatsOn(host: XenHost, times = 10): Promise<void> {
    const from = this.beats.length;
    const heard = () => this.beats.slice(from).filter((beat) => beat.host === host.name).length;
    await until(() => heard() >= times, `the guest beats on ${host.name}: ${this.toString()}`, {
      lookMs: 50,
    });
  }

  /** Forgets what was before: a new guest, or the next scenario. */
  clear(): void {
    this.beats.length = 0;
  }

  /** No beat is missing, none came twice, and once it was heard on the other host the first one is silent. */
  mustBeWhole(): void {
    assert.equal(this.#broken, '', 'the guest has found its memory broken');
    for (const [i, beat] of this.beats.entries()) {
      const before = this.beats[i - 1];
      if (before === undefined) continue;
      assert.equal(beat.number, before.number + 1, `after ${show(before)} came ${show(beat)}`);
    }
  }

  /** The longest time without a beat, ms, and between which. */
  longestGap(): { ms: number; between: string } {
    let found = { ms: 0, between: '' };
    for (const [i, beat] of this.beats.entries()) {
      const before = this.beats[i - 1];
      const ms = before ? beat.atMs - before.atMs : 0;
      if (ms > found.ms) found = { ms, between: `${show(before!)} and ${show(beat)}` };
    }
    return found;
  }

  toString(): string {
    return this.beats.slice(-5).map(show).join(', ');
  }

  end(): void {
    for (const one of this.#listening) one.leave();
  }

  #hear(line: string, host: string): void {
    const number = /\bbeat (\d+)/.exec(line)?.[1];
    if (number !== undefined)
      this.beats.push({ number: Number(number), host, atMs: performance.now() });
    if (line.includes('BROKEN')) this.#broken = line;
  }
}

function show({ number, host }: Beat): string {
  return `beat ${number} on ${host}`;
}
