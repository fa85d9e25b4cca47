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
  | 'ambiguous-id'
  | 'unknown-guest'
  | 'unknown-profile'
  | 'guest-busy'
  | 'guest-exists'
  | 'guest-not-running'
  | 'guest-stopped'
  | 'moved-by-xl'
  | 'not-seen'
  | 'evacuation-open'
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
  | 'no-progress'
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
  | 'lane-refused'
  // what QEMU or xl wrote
  | 'qemu-stream'
  | 'xen-stream'
  // resources of a host
  | 'exhausted'
  | 'memory-insufficient'
  | 'ram-file-failed'
  | 'definition-invalid'
  | 'ledger-failed'
  | 'ledger-invalid'
  | 'journal-failed'
  | 'journal-invalid'
  | 'listen-failed'
  | 'metrics-failed'
  | 'claim-failed'
  | 'hypervisor-failed'
  | 'not-started'
  | 'hook-failed'
  | 'guest-died'
  // decisions
  | 'policy-abort'
  | 'suspension-limit'
  | 'cutover-refused'
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
  /** A suspension limit that would have been enough, ms; undefined where that was not the reason. */
  readonly enoughMs: number | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; fromPeer?: boolean; enoughMs?: number | undefined } = {},
  ) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.fromPeer = options.fromPeer ?? false;
    this.enoughMs = options.enoughMs;
  }
}

/** The form that all codes have: those of a peer may be newer than this agent. */
export function isErrorCode(code: string): code is ErrorCode {
  return /^[a-z][a-z-]{0,39}$/.test(code);
}

/** What the system, or a thread that could not start, says when there is no more of something. */
const EXHAUSTED: Readonly<Record<string, string>> = {
  EMFILE:
    'this process may have no more files and connections open (EMFILE): raise LimitNOFILE= of its unit, or ulimit -n',
  ENFILE:
    'this host may have no more files and connections open (ENFILE): raise its fs.file-max, or end what has them',
  ENOMEM: 'there is no memory left for it (ENOMEM): make room on this host',
};
const OUT_OF_MEMORY = /Array buffer allocation failed|ERR_WORKER_OUT_OF_MEMORY/;

/**
 * Any thrown value as a GodwitError; what is not one already is a bug and says so by its code, or there
 * was no more of what it takes.
 */
export function asGodwitError(thrown: unknown): GodwitError {
  if (thrown instanceof GodwitError) return thrown;
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  const name = exhaustedIn(`${(thrown as { code?: unknown } | undefined)?.code} ${text}`);
  if (name !== undefined) return new GodwitError('exhausted', EXHAUSTED[name]!, { cause: thrown });
  return new GodwitError('internal', `internal error: ${text}`, { cause: thrown });
}

function exhaustedIn(words: string): string | undefined {
  if (OUT_OF_MEMORY.test(words)) return 'ENOMEM';
  return /\b(EMFILE|ENFILE|ENOMEM)\b/.exec(words)?.[1];
}
