import { randomBytes } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { asGodwitError, GodwitError } from '../../errors.ts';
import { type Finding, lookAt } from '../../finding.ts';
import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import { PageHash } from '../../pages/hash.ts';
import { formatDuration, formatSize } from '../../units.ts';
import type { Connection } from '../../wire/connection.ts';
import type { Credentials } from '../../wire/credentials.ts';
import { MAX_FINDING_TEXT, SECRET_SIZE } from '../../wire/handshake.ts';
import { LaneDoor, portsToTry } from '../../wire/lane-door.ts';
import type { Check } from '../../wire/messages.ts';
import { BALLAST_BYTES, BALLAST_FRAME } from './ballast.ts';

/** What a sender may do with a check, whoever it is: WIRE.md, Check. */
const MAX_BALLAST_FRAMES = BALLAST_BYTES / BALLAST_FRAME + 1024;
const CHECK_LIMIT_MS = 15_000;
/** Hashed to learn how fast memory is verified: a millisecond. */
const HASHED_BYTES = 4 << 20;
/** Share of the rates of single cores that all reach together, which have memory to read besides. */
const TOGETHER = 0.5;

export interface AnswerContext {
  readonly credentials: Credentials | undefined;
  /** SHA-256 of the certificate that the sender has shown; empty without TLS. */
  readonly senderFingerprint: string;
  readonly listenHost: string;
  readonly peerTimeoutMs: number;
  readonly dataPorts: { readonly first: number; readonly last: number } | undefined;
  /** What stands in the way of the guest on this host. */
  readonly findings: () => Promise<readonly Finding[]>;
  /** How long a record would take to be durable here, ms. @throws GodwitError journal-failed */
  readonly measureJournal: () => Promise<number>;
  /** Called once, when nothing of it is left. */
  readonly onEnd: (error: GodwitError | undefined) => void;
}

/** The destination's side of one check: answers it, and takes ballast until the sender has enough. */
export class CheckAnswering {
  readonly #check: Check;
  readonly #control: Connection;
  readonly #context: AnswerContext;
  readonly #secret = randomBytes(SECRET_SIZE);
  readonly #doors: LaneDoor[];
  /** Connections of lanes, by lane. */
  readonly #lanes = new Map<number, Connection>();
  readonly #timer: NodeJS.Timeout;
  #answered = false;
  #ended = false;
  #bytes = 0;
  #frames = 0;

  /** @param check as `requireCheck` has let it through */
  constructor(check: Check, control: Connection, context: AnswerContext) {
    this.#check = check;
    this.#control = control;
    this.#context = context;
    this.#doors = Array.from({ length: check.lanes }, (_, lane) => this.#door(lane));
    this.#timer = setTimeout(() => {
      const limit = formatDuration(CHECK_LIMIT_MS);
      this.end(new GodwitError('too-late', `a check is over after ${limit}`));
    }, CHECK_LIMIT_MS);
    control.serve({
      onMessage: ({ kind }) => {
        throw new GodwitError('bad-message', `the sender sent ${kind} in a check`);
      },
      onClose: (error) => this.#closed(error),
    });
  }

  /** Looks, listens and answers; what goes wrong ends the check. */
  async begin(): Promise<void> {
    try {
      await this.#answer();
    } catch (thrown) {
      this.end(asGodwitError(thrown));
    }
  }

  /** Ends it for a reason, which the sender is told. */
  end(error: GodwitError): void {
    this.#control.destroy(error); // calls `#closed`
  }

  async #answer(): Promise<void> {
    const { findings, measureJournal } = this.#context;
    const found = [...(await findings())];
    let journalMs = -1;
    const journal = await lookAt('journal', async () => {
      journalMs = await measureJournal();
      return `a record is durable in ${formatDuration(journalMs)}`;
    });
    let dataPorts: readonly number[] = [];
    const listening = await lookAt('data-ports', async () => {
      dataPorts = await this.#listen();
      return `${dataPorts.length} free`;
    });
    if (this.#ended) return this.#letGo(); // meanwhile
    this.#answered = true;
    this.#control.send('CheckAnswer', {
      findings: [...found, journal, listening].map(wired),
      verifyRate: this.#check.verify ? verifyRate(this.#check.lanes) : 0,
      journalMs,
      dataPorts: listening.verdict === 'ok' ? dataPorts : [],
      secret: this.#secret,
    });
  }

  /** One after the other, as few as they are: two lanes never try for the same port. */
  async #listen(): Promise<readonly number[]> {
    const ports: number[] = [];
    for (const door of this.#doors) ports.push(await door.listen());
    return ports;
  }

  #door(lane: number): LaneDoor {
    const { credentials, senderFingerprint, listenHost, dataPorts, peerTimeoutMs } = this.#context;
    return new LaneDoor({
      listenHost,
      listenPorts: portsToTry(dataPorts),
      credentials,
      senderFingerprint,
      migration: this.#check.id,
      lane,
      secret: this.#secret,
      peerTimeoutMs,
      onOpen: (connection) => this.#take(lane, connection),
    });
  }

  #take(lane: number, connection: Connection): void {
    this.#doors[lane]!.shut(); // a move may want the port; a lane that is lost here stays lost
    this.#lanes.get(lane)?.close();
    this.#lanes.set(lane, connection);
    connection.serve({
      onMessage: ({ kind, payload }) => {
        if (kind !== 'Ballast')
          throw new GodwitError('bad-kind', `${kind} on a lane that only measures`);
        this.#count(payload.length);
      },
      onClose: () => {},
    });
    connection.send('LaneReady', { lane, received: 0 });
  }

  /** All that is done with ballast. */
  #count(bytes: number): void {
    this.#bytes += bytes;
    this.#frames++;
    if (this.#bytes <= BALLAST_BYTES && this.#frames <= MAX_BALLAST_FRAMES) return;
    const text = `a check has at most ${formatSize(BALLAST_BYTES)} of ballast in ${MAX_BALLAST_FRAMES} frames`;
    const error = new GodwitError('too-many', text);
    this.end(error);
    throw error;
  }

  #closed(error: GodwitError | undefined): void {
    this.#ended = true;
    this.#letGo();
    // A sender that has its answer just goes.
    const left = this.#answered && error?.code === 'peer-closed';
    this.#context.onEnd(left ? undefined : error);
  }

  #letGo(): void {
    clearTimeout(this.#timer);
    for (const lane of this.#lanes.values()) lane.close();
    for (const door of this.#doors) door.close();
  }
}

function wired({ about, verdict, code, text }: Finding): Finding {
  return { about, verdict, code, text: text.slice(0, MAX_FINDING_TEXT).toWellFormed() };
}

/** Bytes per second at which memory could be read again, as far as hashing alone shows. */
function verifyRate(lanes: number): number {
  const hash = new PageHash(0n);
  const page = Buffer.alloc(PAGE_SIZE);
  const started = performance.now();
  for (let at = 0; at < HASHED_BYTES; at += PAGE_SIZE) hash.of(page);
  const rate = (HASHED_BYTES / (performance.now() - started)) * 1000;
  return rate * Math.min(lanes, availableParallelism()) * TOGETHER;
}
