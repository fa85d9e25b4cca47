const STORAGE = 'all disks are copied that are not shared or only read: --copy-storage-all';
const OWN_DISKS = 'disks travel over a connection of the agents, beside the pages';
const P2P = 'the agents call the libvirt of their own host; libvirtd never calls another libvirtd';
const OWN_TLS = 'what travels is in the TLS of the agents (--tls-cert of serve)';
const LANES = 'pages travel over several connections as they are: --lanes';
const POSTCOPY = 'a guest runs at its source until all of it has arrived';
const PACE = 'the guest is not slowed down: --prefer completion finishes all the same';
const COMPRESSION = 'compression is chosen from measured rates: --no-compression ends it';

/** Options of `virsh migrate` that mean nothing here, or have another name. */
export const VIRSH_OPTIONS: Readonly<Record<string, string>> = {
  live: 'every move is a live one',
  direct: P2P,
  p2p: P2P,
  tunnelled: OWN_TLS,
  tls: OWN_TLS,
  'tls-destination': OWN_TLS,
  parallel: LANES,
  'parallel-connections': LANES,
  postcopy: POSTCOPY,
  'postcopy-after-precopy': POSTCOPY,
  'postcopy-bandwidth': POSTCOPY,
  'rdma-pin-all': 'pages do not travel by RDMA',
  'migrate-disks': STORAGE,
  'migrate-disks-detect-zeroes': STORAGE,
  'disks-port': OWN_DISKS,
  'disks-uri': OWN_DISKS,
  'copy-storage-synchronous-writes': 'a guest does not wait for the copies of its disks',
  'auto-converge': PACE,
  compressed: COMPRESSION,
  'comp-methods': COMPRESSION,
  xml: 'it is --dest-xml here',
  dname: 'it is --dest-name here',
  undefinesource: 'it is --undefine-source here',
  'persistent-xml': 'with --dest-xml, --persistent defines that XML',
  'change-protection': 'nobody else changes a domain while it is moved',
  unsafe: 'what libvirt takes for unsafe is not moved',
  offline: 'only a guest that runs or is paused can be moved',
};
