const KiB = 1024;
const MiB = 1024 * KiB;

export type Side = 'sender' | 'receiver';
export type ConnectionKind = 'control' | 'data';

/** A row of the table in proto/WIRE.md, "Kinds". Lengths are limits in bytes. */
export interface Kind {
  readonly name: KindName;
  readonly number: number;
  readonly from: Side | 'both';
  readonly connection: ConnectionKind | 'both';
  readonly body: number;
  readonly payload: number;
  /** A peer that does not know the kind may skip it. */
  readonly optional: boolean;
  /** It counts in the link's sequence and is sent again when a connection was lost. */
  readonly numbered: boolean;
}

// name: number, from, connection, body limit, payload limit
const TABLE = {
  Hello: [1, 'sender', 'control', 4 * KiB, 0],
  Welcome: [2, 'receiver', 'control', 4 * KiB, 0],
  GuestOffer: [3, 'sender', 'control', 256 * KiB, 0],
  Accept: [4, 'receiver', 'control', 4 * KiB, 0],
  RoundBegin: [5, 'sender', 'control', 64, 0],
  DirtyList: [6, 'sender', 'control', MiB, 0],
  RoundEnd: [7, 'sender', 'control', 64, 0],
  Verdict: [8, 'sender', 'control', 4 * KiB, 0, 'optional'],
  Suspend: [9, 'sender', 'control', 64, 0],
  DeviceState: [10, 'sender', 'control', KiB, 0],
  Digest: [11, 'sender', 'control', 4 * KiB, 0],
  Prepared: [12, 'receiver', 'control', 64, 0],
  Commit: [13, 'sender', 'control', 64 * KiB, 0],
  Running: [14, 'receiver', 'control', 64, 0],
  Refused: [15, 'receiver', 'control', 4 * KiB, 0],
  Released: [16, 'sender', 'control', 64, 0],
  Closed: [17, 'receiver', 'control', 64, 0],
  Abort: [18, 'both', 'both', 4 * KiB, 0],
  Ping: [19, 'both', 'both', 64, 0],
  Pong: [20, 'both', 'control', 64, 0],
  Rejoin: [21, 'sender', 'control', 128, 0],
  Rejoined: [22, 'receiver', 'control', 64, 0],
  Recover: [23, 'sender', 'control', 256, 0],
  Recovered: [24, 'receiver', 'control', 64, 0],
  Aborted: [25, 'sender', 'control', 4 * KiB, 0],
  RoundTaken: [26, 'receiver', 'control', 64, 0],
  Withdraw: [27, 'sender', 'control', 64, 0],
  Check: [28, 'sender', 'control', 64 * KiB, 0],
  CheckAnswer: [29, 'receiver', 'control', 64 * KiB, 0],
  HostFacts: [30, 'receiver', 'control', KiB, 0, 'optional'],
  LaneOpen: [32, 'sender', 'data', 256, 0],
  LaneReady: [33, 'receiver', 'data', 64, 0],
  PageBatch: [34, 'sender', 'data', 8 * KiB, MiB + 64 * KiB],
  Ack: [35, 'both', 'both', 8, 0],
  Ballast: [36, 'sender', 'data', 64, 64 * KiB],
  StatePart: [37, 'sender', 'data', 64, 256 * KiB],
  DiskBytes: [38, 'both', 'data', 64, 256 * KiB],
  KeptHashes: [39, 'receiver', 'data', 64, 4 * KiB],
} as const;

/** Kinds that belong to one connection; all others are numbered and outlive it. */
const UNNUMBERED: ReadonlySet<KindName> = new Set<KindName>([
  ...(['Hello', 'Welcome', 'Abort', 'Ping', 'Pong', 'Ack', 'LaneOpen', 'LaneReady'] as const),
  ...(['Rejoin', 'Rejoined', 'Check', 'CheckAnswer', 'KeptHashes'] as const),
]);

export type KindName = keyof typeof TABLE;

export const KINDS: readonly Kind[] = Object.entries(TABLE).map(
  ([name, [number, from, connection, body, payload, optional]]) => ({
    name: name as KindName,
    number,
    from,
    connection,
    body,
    payload,
    optional: optional !== undefined,
    numbered: !UNNUMBERED.has(name as KindName),
  }),
);

const BY_NUMBER: readonly (Kind | undefined)[] = indexed();
const BY_NAME = Object.fromEntries(KINDS.map((kind) => [kind.name, kind])) as Record<
  KindName,
  Kind
>;

export function kindOf(name: KindName): Kind {
  return BY_NAME[name];
}

/** The kind of that number, undefined when this version does not know it. */
export function kindOfNumber(number: number): Kind | undefined {
  return BY_NUMBER[number];
}

/** True when a frame of the kind may come from that side on that connection. */
export function isLegal(kind: Kind, from: Side, connection: ConnectionKind): boolean {
  const sideFits = kind.from === 'both' || kind.from === from;
  return sideFits && (kind.connection === 'both' || kind.connection === connection);
}

function indexed(): (Kind | undefined)[] {
  const table: (Kind | undefined)[] = new Array(256).fill(undefined);
  for (const kind of KINDS) table[kind.number] = kind;
  return table;
}
