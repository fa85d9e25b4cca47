import { log } from '../lib/control/log.ts';
import { type ErrorCode, GodwitError } from '../lib/errors.ts';

/** Connections that may be open without having said what they want. */
const MAX_STRANGERS = 64;
/** Failed connections that an address may have at once, and how often it may have another, ms. */
const FAILURES = 20;
const FORGIVE_MS = 1000;
/** Addresses whose failures are remembered; the one that was quiet longest is forgotten. */
const MAX_ADDRESSES = 1024;
/** A refusal that repeats is logged once in this time, ms, with how many there were. */
const LOG_PAUSE_MS = 10_000;

interface Record {
  failures: number;
  /** When a failure was last taken back. */
  at: number;
}

/** What peers may ask of this host, and how often they may get it wrong. */
export class Admission {
  readonly #maxMigrations: number;
  readonly #records = new Map<string, Record>();
  readonly #logged = new Map<string, { at: number; more: number }>();
  #strangers = 0;

  constructor(maxMigrations: number) {
    this.#maxMigrations = maxMigrations;
  }

  /** @throws GodwitError too-many */
  checkMigrations(open: number): void {
    if (open < this.#maxMigrations) return;
    throw new GodwitError(
      'too-many',
      `the destination takes ${this.#maxMigrations} migrations at once (--max-migrations)`,
    );
  }

  /** A connection from that address; false: it is closed without a word. */
  enter(address: string): boolean {
    const record = this.#recordOf(address);
    const code = this.#strangers >= MAX_STRANGERS ? 'too-many' : 'peer-not-allowed';
    if (code === 'too-many' || record.failures >= FAILURES) {
      const why = code === 'too-many' ? 'too many connections say nothing' : 'too many have failed';
      this.#log(address, code, `connections are closed at once: ${why}`);
      return false;
    }
    this.#strangers++;
    return true;
  }

  /** It has said what it wants, or has gone. */
  leave(): void {
    this.#strangers--;
  }

  /** It was turned away, or did not get as far as wanting anything. */
  failed(address: string, error: GodwitError): void {
    this.#recordOf(address).failures++;
    this.#log(address, error.code, error.message);
  }

  #recordOf(address: string): Record {
    const now = performance.now();
    const record = this.#records.get(address) ?? { failures: 0, at: now };
    const forgiven = Math.floor((now - record.at) / FORGIVE_MS);
    record.failures = Math.max(0, record.failures - forgiven);
    record.at += forgiven * FORGIVE_MS;
    this.#records.delete(address);
    this.#records.set(address, record); // the newest stands last
    prune(this.#records);
    return record;
  }

  #log(address: string, code: ErrorCode, text: string): void {
    const key = `${address} ${code}`;
    const now = performance.now();
    const last = this.#logged.get(key);
    if (last && now - last.at < LOG_PAUSE_MS) {
      last.more++;
      return;
    }
    const more = last && last.more > 0 ? ` (and ${last.more} more since the last such line)` : '';
    log('warn', `connection turned away: ${text} (${code})${more}`, address);
    this.#logged.delete(key);
    this.#logged.set(key, { at: now, more: 0 });
    prune(this.#logged);
  }
}

function prune(map: Map<string, unknown>): void {
  if (map.size > MAX_ADDRESSES) map.delete(map.keys().next().value!);
}
