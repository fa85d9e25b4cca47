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

const PLAIN = byQemu('QEMU plain');
/** QEMU takes pages of a RAM file at another speed than pages of anonymous memory. */
const PLAIN_FILE = byQemu('QEMU plain, RAM file', { memory: 'file' });
const MULTIFD = byQemu('QEMU multifd, RAM file', { memory: 'file', multifd: 'none' });
const PACKED = byQemu('QEMU multifd zstd, RAM file', { memory: 'file', multifd: 'zstd' });
export const DIRECT = byGodwit('direct');
const STREAM = byGodwit('stream');
const TLS = byGodwit('direct', 'tls');

/** What is compared over each network. */
export const METHODS: Readonly<Record<NetworkName, readonly Method[]>> = {
  unlimited: [PLAIN, PLAIN_FILE, MULTIFD, DIRECT, STREAM, TLS],
  '1 Gbit/s': [PLAIN_FILE, PACKED, DIRECT, STREAM],
};

const WORDS = { seconds: 'wall', wireBytes: 'wire', processorSeconds: 'CPU' } as const;

/** What the project wants of a method, as far as what it is compared with has been measured. */
export function targetsOf(result: Result, all: readonly Result[]): Target[] {
  const { network, method } = result;
  const atMost = (limit: number, other: Method, figure: keyof typeof WORDS): Target[] => {
    const beside = all.find((one) => one.network === network && one.method === other);
    if (beside === undefined) return [];
    const ratio = medianOf(result, figure) / medianOf(beside, figure);
    const text = `${WORDS[figure]} at most ${limit} × ${other.name} (is ${ratio.toFixed(2)})`;
    return [{ text, met: ratio <= limit }];
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

function medianOf({ costs }: Result, figure: keyof Costs): number {
  return median(costs.map((cost) => cost[figure]));
}
