import type { DefaultPaths } from '../lib/control/paths.ts';
import type { Security } from '../lib/wire/credentials.ts';
import type { AllowList } from '../lib/wire/tls.ts';

/** What the receiving daemon is started with. */
export interface RecvDaemonOptions extends DefaultPaths {
  /** Definitions of QEMU guests. */
  readonly definitions: string;
  /** Where RAM files are made, and may lie: a tmpfs. */
  readonly ramDir: string;
  readonly security: Security;
  /** Whose certificates are admitted. */
  readonly allowed: AllowList;
  readonly maxMigrations: number;
  readonly listenHost: string;
  readonly listenPort: number;
  /** Ports for data connections; undefined: any. */
  readonly dataPorts: { readonly first: number; readonly last: number } | undefined;
  readonly peerTimeoutMs: number;
  /** How long a sender that was lost may take to come back. */
  readonly reconnectTimeoutMs: number;
}
