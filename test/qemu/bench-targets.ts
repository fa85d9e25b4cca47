import { type BusyCosts, LIMITS } from './bench-busy.ts';
import { byGodwit } from './bench-godwit.ts';
import type { Method } from './bench-method.ts';
import type { Costs } from './bench-move.ts';
import { byQemu } from './bench-qemu.ts';
import { median, type Target } from './bench-table.ts';

export type NetworkName = 'unlimited' | '1 Gbit/s';

/** What a method has cost over a network, each time. */
export interface Result {
  readonly network: NetworkName;
  readonly method: Method;
  readonly costs: readonly Costs[];
}

/** What a method has cost each time that it moved a busy guest. */
export interface BusyResult {
  readonly method: Method;
  readonly costs: readonly BusyCosts[];
  /** Why, for each time that it was given up. */
  readonly givenUp: readonly string[];
}

const PLAIN = byQemu('QEMU plain');
/** QEMU takes pages of a RAM file at another speed than pages of anonymous memory. */
const PLAIN_FILE = byQemu('QEMU plain, RAM file', { memory: 'file' });
const MULTIFD = byQemu('QEMU multifd, RAM file', { memory: 'file', multifd: 'none' });
const PACKED = byQemu('QEMU multifd zstd, RAM file', { memory: 'file', multifd: 'zstd' });
export const DIRECT = byGodwit('direct');
const STREAM = byGodwit('stream');
const TLS = byGodwit('direct', { secure: true });

/** What is compared over each network. */
export const METHODS: Readonly<Record<NetworkName, readonly Method[]>> = {
  unlimited: [PLAIN, PLAIN_FILE, MULTIFD, DIRECT, STREAM, TLS],
  '1 Gbit/s': [PLAIN_FILE, PACKED, DIRECT, STREAM],
};

const BUSY_PACKED = byQemu('QEMU multifd zstd, RAM file', {
  ...{ memory: 'file', multifd: 'zstd' },
  limits: LIMITS,
});
const BUSY_DIRECT = byGodwit('direct', { limits: LIMITS });
const BUSY_STREAM = byGodwit('stream', { limits: LIMITS });

/** What is compared for a busy guest, at 1 Gbit/s. */
export const BUSY_METHODS: readonly Method[] = [BUSY_PACKED, BUSY_DIRECT, BUSY_STREAM];

const WORDS = {
  seconds: 'wall',
  wireBytes: 'wire',
  processorSeconds: 'CPU',
  gapMs: 'gap',
} as const;

/** What the project wants of a method, as far as what it is compared with has been measured. */
export function targetsOf(result: Result, all: readonly Result[]): Target[] {
  const { network, method } = result;
  const atMost = (limit: number, other: Method, figure: keyof Costs & keyof typeof WORDS) => {
    const beside = all.find((one) => one.network === network && one.method === other);
    return beside === undefined ? [] : [ratioTarget(result, beside, figure, limit)];
  };
  if (network === '1 Gbit/s')
    return method === DIRECT
      ? [
          ...atMost(1.05, PACKED, 'seconds'),
          ...atMost(1, PACKED, 'wireBytes'),
          ...atMost(1.2, PACKED, 'processorSeconds'),
        ]
      : [];
  if (method === DIRECT)
    return [...atMost(0.65, PLAIN_FILE, 'seconds'), ...atMost(1.3, MULTIFD, 'seconds')];
  if (method === STREAM) return atMost(1.5, DIRECT, 'seconds');
  if (method === TLS) return atMost(1.3, DIRECT, 'seconds');
  return [];
}

/** Likewise, of a way to move a busy guest. */
export function busyTargetsOf(result: BusyResult, all: readonly BusyResult[]): Target[] {
  const beside = all.find(({ method }) => method === BUSY_PACKED);
  if (result.method !== BUSY_DIRECT || beside === undefined) return [];
  const met = result.givenUp.length <= beside.givenUp.length;
  const moved = { text: `moved as often as by ${beside.method.name}`, met };
  if (result.costs.length === 0 || beside.costs.length === 0) return [moved];
  return [
    ratioTarget(result, beside, 'seconds', 1.05),
    ratioTarget(result, beside, 'gapMs', 1),
    moved,
  ];
}

/** @param figure of which the median counts */
function ratioTarget<Figure extends keyof typeof WORDS>(
  result: Measured<Figure>,
  beside: Measured<Figure> & { readonly method: Method },
  figure: Figure,
  limit: number,
): Target {
  const of = ({ costs }: Measured<Figure>) => median(costs.map((cost) => cost[figure]));
  const ratio = of(result) / of(beside);
  const text = `${WORDS[figure]} at most ${limit} × ${beside.method.name} (is ${ratio.toFixed(2)})`;
  return { text, met: ratio <= limit };
}

interface Measured<Figure extends string> {
  readonly costs: readonly Readonly<Record<Figure, number>>[];
}
