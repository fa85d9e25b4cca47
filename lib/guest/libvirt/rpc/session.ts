import { connect, type Socket } from 'node:net';
import { asGodwitError, GodwitError } from '../../../errors.ts';
import { within } from '../../../poll.ts';
import { formatDuration } from '../../../units.ts';
import {
  encodeMessage,
  KEEPALIVE_PROGRAM,
  MESSAGE,
  type Message,
  MessageSplitter,
  REMOTE_PROGRAM,
} from './message.ts';
import { type DomainEvent, nameOf, PROCEDURE, readError, readEvent } from './procedures.ts';
import { XdrReader, type XdrWriter } from './xdr.ts';

/** Procedures of libvirt's virkeepaliveprotocol.x. */
const PING = 1;
const PONG = 2;
/** For libvirtd to let go of a connection that was left, ms. */
const LEAVE_LIMIT_MS = 2_000;

/** A call that libvirt has answered with an error: its own words. */
export class CallRefused extends GodwitError {
  /** virErrorNumber. */
  readonly number: number;

  constructor(number: number, message: string) {
    super('hypervisor-failed', message);
    this.number = number;
  }
}

interface Pending {
  /** Of the procedure. */
  readonly name: string;
  readonly timer: NodeJS.Timeout | undefined;
  readonly resolve: (body: Buffer) => void;
  readonly reject: (error: GodwitError) => void;
}

/** One connection to a libvirtd: calls and their replies, and what it tells by itself. */
export class RpcSession {
  readonly path: string;
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  readonly #eventListeners = new Set<(event: DomainEvent) => void>();
  readonly #closeListeners: ((error: GodwitError) => void)[] = [];
  #lastSerial = 0;
  /** Why nothing can be called any more. */
  #ended: GodwitError | undefined;
  #closedHere = false;

  private constructor(socket: Socket, path: string) {
    this.#socket = socket;
    this.path = path;
    const splitter = new MessageSplitter();
    socket.on('error', () => {}); // 'close' follows
    socket.on('close', () => this.#end(new GodwitError('not-seen', this.#words('has gone away'))));
    socket.on('data', (bytes: Buffer) => this.#receive(splitter, bytes));
  }

  /** @throws GodwitError hypervisor-failed when nobody listens there, not-seen when it takes too long */
  static async connect(path: string, limitMs: number): Promise<RpcSession> {
    const socket = connect(path);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    socket.once('connect', resolve).once('error', reject);
    const late = () => {
      const text = `libvirtd at ${path} did not take the connection within ${formatDuration(limitMs)}`;
      return new GodwitError('not-seen', text);
    };
    try {
      await within(limitMs, promise, late);
      return new RpcSession(socket, path);
    } catch (cause) {
      socket.destroy();
      if (cause instanceof GodwitError) throw cause;
      const { code } = cause as NodeJS.ErrnoException;
      const text = `cannot connect to libvirtd at ${path}: ${code}`;
      throw new GodwitError('hypervisor-failed', text, { cause });
    }
  }

  /**
   * Calls a procedure; Infinity is no limit.
   * @returns the body of its reply
   * @throws CallRefused; GodwitError not-seen when there is no answer in time or libvirtd goes away
   */
  call(
    procedure: number,
    args: XdrWriter,
    limitMs: number,
    program = REMOTE_PROGRAM,
  ): Promise<Buffer> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    const serial = ++this.#lastSerial;
    const name = nameOf(procedure, program);
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
    const late = () => {
      this.#pending.delete(serial);
      const text = `did not answer ${name} within ${formatDuration(limitMs)}`;
      reject(new GodwitError('not-seen', this.#words(text)));
    };
    const timer = Number.isFinite(limitMs) ? setTimeout(late, limitMs) : undefined;
    this.#pending.set(serial, { name, timer, resolve, reject });
    this.#send({ program, procedure, type: MESSAGE.CALL, serial }, args.bytes());
    return promise;
  }

  /** Calls the listener for each event. @returns a function that stops it */
  onEvent(listener: (event: DomainEvent) => void): () => void {
    this.#eventListeners.add(listener);
    return () => this.#eventListeners.delete(listener);
  }

  /** Called once when the connection ends by itself: libvirtd was restarted, or speaks nonsense. */
  onClose(listener: (error: GodwitError) => void): void {
    const ended = this.#ended;
    if (ended === undefined) this.#closeListeners.push(listener);
    else if (!this.#closedHere) queueMicrotask(() => listener(ended));
  }

  /** Takes leave, so that libvirtd has nothing to complain about; it then closes the connection. */
  close(): void {
    if (this.#ended !== undefined) return;
    this.#closedHere = true;
    this.#closeListeners.length = 0;
    const { close: procedure } = PROCEDURE;
    const serial = ++this.#lastSerial;
    this.#send({ program: REMOTE_PROGRAM, procedure, type: MESSAGE.CALL, serial }, Buffer.alloc(0));
    const timer = setTimeout(() => this.#socket.destroy(), LEAVE_LIMIT_MS);
    this.#socket.once('close', () => clearTimeout(timer));
    this.#fail(new GodwitError('not-seen', this.#words('was left by this agent')));
  }

  #send(head: Omit<Message, 'failed' | 'body'>, body: Buffer): void {
    this.#socket.write(encodeMessage({ ...head, body }));
  }

  #receive(splitter: MessageSplitter, bytes: Buffer): void {
    try {
      for (const message of splitter.push(bytes)) this.#hear(message);
    } catch (error) {
      this.#end(asGodwitError(error));
    }
  }

  #hear(message: Message): void {
    const { program, procedure, type, serial, body } = message;
    if (program === KEEPALIVE_PROGRAM) {
      if (procedure !== PING) return;
      const answer = { program, procedure: PONG, type: MESSAGE.EVENT, serial: 0 };
      return this.#send(answer, Buffer.alloc(0));
    }
    if (type === MESSAGE.REPLY) return this.#settle(serial, message);
    if (program === REMOTE_PROGRAM && type === MESSAGE.EVENT) {
      const event = readEvent(procedure, new XdrReader(body));
      if (event === undefined) return;
      for (const listener of this.#eventListeners) listener(event);
    }
  }

  /** One whose call nobody waits for any more is nobody's. */
  #settle(serial: number, { failed, body }: Message): void {
    const waiting = this.#pending.get(serial);
    if (waiting === undefined) return;
    this.#pending.delete(serial);
    clearTimeout(waiting.timer);
    if (!failed) return waiting.resolve(body);
    const { code, words } = readError(new XdrReader(body));
    waiting.reject(new CallRefused(code, `libvirt refused ${waiting.name}: ${words}`));
  }

  #end(error: GodwitError): void {
    this.#socket.destroy();
    this.#fail(error);
  }

  #fail(error: GodwitError): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    for (const { timer, reject } of this.#pending.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#pending.clear();
    for (const listener of this.#closeListeners.splice(0)) listener(error);
  }

  #words(what: string): string {
    return `libvirtd at ${this.path} ${what}`;
  }
}
