import type { Socket } from 'node:net';
import { type ErrorCode, GodwitError } from '../errors.ts';
import { log } from '../log.ts';

/** What most are turned away for: shown from the start, since a counter that appears has no rate. */
const REASONS: readonly ErrorCode[] = [
  ...(['peer-not-allowed', 'tls-failed', 'tls-required', 'too-many'] as const),
  ...(['peer-closed', 'peer-silent', 'bad-magic', 'bad-version', 'bad-message'] as const),
];
/** What peers call it themselves when they leave: any word. */
const BY_PEER = 'peer-aborted';

/** Connections that may be open without having said what they want, and those of one address. */
const MAX_STRANGERS = 64;
const MAX_OF_ADDRESS = 32;
/** Failed connections that an address may have at once, and how often it may have another, ms. */
const FAILURES = 20;
const FORGIVE_MS = 1000;
/** Checks that go on at once, and those that an address may begin at once; each is forgiven like a failure. */
const MAX_CHECKS = 2;
const CHECKS_OF_ADDRESS = 10;
/** Addresses whose failures are remembered; the one that was quiet longest is forgotten. */
const MAX_ADDRESSES = 1024;
/** A refusal that repeats is logged once in this time, ms, with how many there were. */
const LOG_PAUSE_MS = 10_000;

/** A connection that has not said yet what it wants: it counts from its first packet on. */
export interface Stranger {
  /** It has said what it wants, and that is done: it does not count any more. */
  takenIn(): void;
  /** Why it will not be; it counts until it is closed. One that just goes away has failed, too. */
  failed(error: GodwitError): void;
}

interface Record {
  failures: number;
  checks: number;
  /** When one of each was last taken back. */
  at: number;
}

/** What peers may ask of this host, and how often they may get it wrong. */
export class Admission {
  /** Taken at once. */
  maxMigrations: number;
  readonly #records = new Map<string, Record>();
  readonly #logged = new Map<string, { at: number; more: number }>();
  readonly #refused = new Map<string, number>([...REASONS, BY_PEER].map((reason) => [reason, 0]));
  #checks = 0;
  readonly #strangers = new Map<Socket, { readonly address: string; isJudged: boolean }>();

  constructor(maxMigrations: number) {
    this.maxMigrations = maxMigrations;
  }

  /** @throws GodwitError too-many */
  checkMigrations(open: number): void {
    if (open < this.maxMigrations) return;
    throw new GodwitError(
      'too-many',
      `the destination takes ${this.maxMigrations} migrations at once (--max-migrations)`,
    );
  }

  /**
   * A check is a migration's worth of work for a second: few at once, and none without end.
   * @returns what takes it out of the count
   * @throws GodwitError too-many
   */
  enterCheck(address: string): () => void {
    const record = this.#recordOf(address);
    if (this.#checks >= MAX_CHECKS || record.checks >= CHECKS_OF_ADDRESS) {
      const text = `the destination answers ${MAX_CHECKS} checks at once, and few in a row: try again in a moment`;
      throw new GodwitError('too-many', text);
    }
    record.checks++;
    this.#checks++;
    return () => {
      this.#checks--;
    };
  }

  /** A socket as it was accepted, before anything is read from it; undefined: it is closed without a word. */
  enter(socket: Socket): Stranger | undefined {
    const address = socket.remoteAddress ?? 'unknown'; // it has gone already
    const refusal = this.#refusal(address);
    if (refusal !== undefined) {
      this.#count(refusal[0]);
      this.#log(address, ...refusal);
      socket.destroy();
      return undefined;
    }
    const state = { address, isJudged: false };
    this.#strangers.set(socket, state);
    const failed = (error: GodwitError) => {
      if (state.isJudged) return;
      state.isJudged = true;
      this.#recordOf(address).failures++;
      this.#count(error.fromPeer ? BY_PEER : error.code);
      this.#log(address, error.code, error.message);
    };
    socket.once('close', () => {
      this.#strangers.delete(socket);
      failed(new GodwitError('peer-closed', 'the connection was closed'));
    });
    const takenIn = () => {
      state.isJudged = true;
      this.#strangers.delete(socket);
    };
    return { takenIn, failed };
  }

  /** Connections turned away since the start, by reason. */
  get refused(): ReadonlyMap<string, number> {
    return this.#refused;
  }

  #count(reason: string): void {
    this.#refused.set(reason, (this.#refused.get(reason) ?? 0) + 1);
  }

  /** Closes what nobody has told anything yet, as in the middle of a handshake. */
  close(): void {
    for (const [socket, { isJudged }] of this.#strangers) if (!isJudged) socket.destroy();
  }

  #refusal(address: string): readonly [code: ErrorCode, text: string] | undefined {
    const closed = 'connections are closed at once:';
    const alike = [...this.#strangers.values()].filter((other) => other.address === address).length;
    if (this.#strangers.size >= MAX_STRANGERS || alike >= MAX_OF_ADDRESS)
      return ['too-many', `${closed} too many connections say nothing`];
    if (this.#recordOf(address).failures >= FAILURES)
      return ['peer-not-allowed', `${closed} too many have failed`];
    return undefined;
  }

  #recordOf(address: string): Record {
    const now = performance.now();
    const record = this.#records.get(address) ?? { failures: 0, checks: 0, at: now };
    const forgiven = Math.floor((now - record.at) / FORGIVE_MS);
    record.failures = Math.max(0, record.failures - forgiven);
    record.checks = Math.max(0, record.checks - forgiven);
    record.at += forgiven * FORGIVE_MS;
    this.#records.delete(address);
    this.#records.set(address, record); // the newest stands last
    prune(this.#records);
    return record;
  }

  #log(address: string, code: ErrorCode, text: string): void {
    // The line by which a certificate can be allowed is one of its own: only our CA makes them.
    const fingerprint = /sha256:[0-9a-f]{64}/.exec(text)?.[0] ?? '';
    const key = `${address} ${code} ${fingerprint}`;
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
