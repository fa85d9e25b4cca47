import type { CommonOptions } from '../lib/cli/serve-options.ts';
import type { Allowed } from '../lib/guest/libvirt/allowed.ts';
import type { XenAllowed } from '../lib/guest/xen/allowed.ts';
import type { AllowList } from '../lib/wire/certificate-names.ts';

/** What the receiving daemon is started with. */
export interface RecvDaemonOptions extends CommonOptions {
  /** Whose certificates are admitted. */
  readonly allowed: AllowList;
  /** What a domain of libvirt that arrives may have of this host. */
  readonly libvirtAllowed: Allowed;
  /** The same of a domain of Xen. */
  readonly xenAllowed: XenAllowed;
  readonly maxMigrations: number;
  readonly listenHost: string;
  readonly listenPort: number;
  /** Ports for data connections; undefined: any. */
  readonly dataPorts: { readonly first: number; readonly last: number } | undefined;
}
