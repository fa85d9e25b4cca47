import { GodwitError } from '../../../errors.ts';

/** Everything in XDR (RFC 4506) is big-endian and fills words of four bytes. */
const WORD = 4;
/** REMOTE_STRING_MAX and REMOTE_MIGRATE_COOKIE_MAX of libvirt's remote_protocol.x. */
export const MAX_OPAQUE_BYTES = 4 << 20;
export const UUID_BYTES = 16;

/** Writes XDR. */
export class XdrWriter {
  readonly #pieces: Buffer[] = [];

  /** 32 bits, signed or not. */
  int(value: number): this {
    const bytes = Buffer.alloc(WORD);
    bytes.writeInt32BE(value | 0);
    return this.#add(bytes);
  }

  /** 64 bits, signed or not. */
  hyper(value: number | bigint): this {
    const bytes = Buffer.alloc(2 * WORD);
    bytes.writeBigInt64BE(BigInt.asIntN(64, BigInt(value)));
    return this.#add(bytes);
  }

  opaque(bytes: Uint8Array): this {
    this.int(bytes.length);
    return this.fixed(bytes).fixed(Buffer.alloc(-bytes.length & (WORD - 1)));
  }

  /** Bytes of a length that both sides know: a multiple of four, or followed by what fills the word. */
  fixed(bytes: Uint8Array): this {
    return this.#add(Buffer.from(bytes));
  }

  string(text: string): this {
    return this.opaque(Buffer.from(text));
  }

  optionalString(text: string | undefined): this {
    return text === undefined ? this.int(0) : this.int(1).string(text);
  }

  bytes(): Buffer {
    return Buffer.concat(this.#pieces);
  }

  #add(bytes: Buffer): this {
    this.#pieces.push(bytes);
    return this;
  }
}

/** Reads XDR that a daemon has sent. Whatever it finds wrong is a GodwitError, hypervisor-failed. */
export class XdrReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** Signed. */
  int(): number {
    return this.#take(WORD).readInt32BE();
  }

  unsigned(): number {
    return this.#take(WORD).readUInt32BE();
  }

  /** Signed. */
  hyper(): bigint {
    return this.#take(2 * WORD).readBigInt64BE();
  }

  unsignedHyper(): bigint {
    return this.#take(2 * WORD).readBigUInt64BE();
  }

  double(): number {
    return this.#take(2 * WORD).readDoubleBE();
  }

  boolean(): boolean {
    const value = this.unsigned();
    if (value > 1) throw malformed(`${value} where a 0 or a 1 belongs`);
    return value === 1;
  }

  /** How many elements follow. */
  count(max: number): number {
    const count = this.unsigned();
    if (count > max) throw malformed(`a list of ${count}, and there are at most ${max}`);
    return count;
  }

  /** A copy. */
  opaque(): Buffer {
    const length = this.count(MAX_OPAQUE_BYTES);
    const bytes = Buffer.from(this.#take(length));
    this.#take(-length & (WORD - 1));
    return bytes;
  }

  /** A copy. */
  fixed(length: number): Buffer {
    return Buffer.from(this.#take(length));
  }

  string(): string {
    return this.opaque().toString('utf8');
  }

  optionalString(): string | undefined {
    return this.boolean() ? this.string() : undefined;
  }

  /** Nothing may follow. */
  end(): void {
    const left = this.#bytes.length - this.#at;
    if (left > 0) throw malformed(`${left} bytes too many`);
  }

  #take(length: number): Buffer {
    const end = this.#at + length;
    if (end > this.#bytes.length) throw malformed('too few bytes');
    const taken = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return taken;
  }
}

/** For what no libvirtd sends. */
export function malformed(why: string): GodwitError {
  return new GodwitError('hypervisor-failed', `libvirtd sent ${why}`);
}
