/**
 * Errors that an operator may meet. The code is stable (scripts match on it), the message is one
 * plain sentence, `cause` keeps what the system said. Programming mistakes are `assert` failures,
 * never one of these.
 */
export type ErrorCode =
  // what was asked for
  | 'bad-option'
  | 'bad-request'
  | 'unknown-migration'
  | 'unknown-guest'
  | 'guest-busy'
  | 'guest-exists'
  | 'guest-not-running'
  // reaching the peer
  | 'daemon-unreachable'
  | 'host-unknown'
  | 'connect-refused'
  | 'connect-timeout'
  | 'connect-failed'
  | 'reconnect-timeout'
  | 'tls-required'
  | 'tls-failed'
  | 'tls-name-mismatch'
  | 'peer-not-allowed'
  | 'too-many'
  | 'peer-closed'
  | 'peer-silent'
  // what the peer sent
  | 'bad-magic'
  | 'bad-version'
  | 'bad-kind'
  | 'bad-checksum'
  | 'bad-message'
  | 'frame-too-large'
  | 'frame-out-of-order'
  | 'pfn-out-of-range'
  | 'page-hash-mismatch'
  | 'decompress-failed'
  | 'round-incomplete'
  | 'digest-mismatch'
  | 'device-state-invalid'
  | 'verify-mismatch'
  | 'channel-refused'
  // what QEMU wrote
  | 'qemu-stream'
  // resources of a host
  | 'memory-insufficient'
  | 'ram-file-failed'
  | 'definition-invalid'
  | 'ledger-failed'
  | 'ledger-invalid'
  | 'journal-failed'
  | 'journal-invalid'
  | 'listen-failed'
  | 'hypervisor-failed'
  | 'hook-failed'
  | 'guest-died'
  // decisions
  | 'policy-abort'
  | 'suspension-limit'
  | 'cancelled'
  | 'too-late'
  | 'shutting-down'
  | 'commit-refused'
  | 'outcome-unknown'
  | 'interrupted'
  | 'resolved'
  | 'internal';

export class GodwitError extends Error {
  override readonly name = 'GodwitError';
  readonly code: ErrorCode;
  /** True when the peer reported it, false when this side found it. */
  readonly fromPeer: boolean;

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; fromPeer?: boolean } = {},
  ) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.fromPeer = options.fromPeer ?? false;
  }
}

/** Any thrown value as a GodwitError; what is not one already is a bug and says so by its code. */
export function asGodwitError(thrown: unknown): GodwitError {
  if (thrown instanceof GodwitError) return thrown;
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  return new GodwitError('internal', `internal error: ${text}`, { cause: thrown });
}
