import fs from 'node:fs';
import { Site } from './site.ts';

/** From here on nothing may grow, if there are so many moves. */
const WARM = 20;
/** Moves at either end over which resident memory is judged: single figures are a collector's moods. */
const WINDOW = 10;

/** What a daemon has of the machine. */
export interface Holdings {
  readonly descriptors: number;
  readonly threads: number;
  readonly rssMiB: number;
}

export interface Endured {
  readonly agent: string;
  readonly warm: Holdings;
  readonly atEnd: Holdings;
}

/**
 * Moves one guest back and forth between two hosts, until each of their four daemons has had that
 * many migrations. Resident memory is the most of the last moves before the 20th (of few: before the
 * middle), and the least of the last ones: it is compared in favour of the daemon, and a leak shows
 * all the same.
 */
export async function backAndForth(
  moves: number,
  tell: (line: string) => void = () => {},
): Promise<readonly Endured[]> {
  const site = await Site.start();
  try {
    const { A, B } = site;
    await A.boot({ memory: '8MiB', workload: 'hot-set', rate: 500, workingSet: '2MiB' });
    const daemons = [A, B].flatMap((host) => [host.send, host.recv]);
    const samples = daemons.map((): Holdings[] => []);
    for (let move = 1; move <= moves; move++) {
      for (const [from, to] of [
        [A, B],
        [B, A],
      ] as const) {
        const { exit, outcome } = await from.migrate(to, ['--max-suspend-time', '20s']);
        if (exit !== 0) throw new Error(`move ${move}: ${outcome}\n${site.story()}`);
      }
      await site.settled();
      daemons.forEach(({ process: { pid } }, i) => {
        samples[i]!.push(holdings(pid!));
      });
      if (move % WARM === 0) tell(`${move}: ${samples.map((s) => words(s.at(-1)!)).join('; ')}`);
    }
    await A.mustRun();
    const names = [A, B].flatMap(({ name }) => [`${name}.send`, `${name}.recv`]);
    return samples.map((all, i) => {
      const warm = Math.min(WARM, Math.floor(moves / 2));
      const first = all.slice(Math.max(0, warm - WINDOW), warm);
      const last = all.slice(Math.max(warm, moves - WINDOW));
      return {
        agent: names[i]!,
        warm: over(first, Math.max),
        atEnd: over(last, Math.min),
      };
    });
  } finally {
    await site.end();
  }
}

function over(samples: readonly Holdings[], pick: (...values: number[]) => number): Holdings {
  return {
    descriptors: pick(...samples.map((one) => one.descriptors)),
    threads: pick(...samples.map((one) => one.threads)),
    rssMiB: pick(...samples.map((one) => one.rssMiB)),
  };
}

export function holdings(pid: number): Holdings {
  const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
  const figure = (name: string) => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)![1]);
  return {
    descriptors: fs.readdirSync(`/proc/${pid}/fd`).length,
    threads: figure('Threads'),
    rssMiB: Math.round(figure('VmRSS') / 1024),
  };
}

export function words({ descriptors, threads, rssMiB }: Holdings): string {
  return `${descriptors} descriptors, ${threads} threads, ${rssMiB} MiB`;
}
