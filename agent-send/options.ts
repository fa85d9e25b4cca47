import type { DefaultPaths } from '../lib/control/paths.ts';
import type { Security } from '../lib/wire/credentials.ts';

/** What the sending daemon is started with. */
export interface SendDaemonOptions extends DefaultPaths {
  /** Definitions of QEMU guests. */
  readonly definitions: string;
  /** Where RAM files of definitions may lie. */
  readonly ramDir: string;
  /** Data connections per migration, unless a request says otherwise. */
  readonly channels: number;
  readonly security: Security;
  /** A peer that says nothing for so long is given up, ms. */
  readonly peerTimeoutMs: number;
  readonly connectTimeoutMs: number;
  /** How long a lost connection is tried again; 0: not at all. */
  readonly reconnectTimeoutMs: number;
}
