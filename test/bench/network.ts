import { execFileSync } from 'node:child_process';

/** Where a side of a benchmark runs: the address to reach it and the command that goes before. */
export interface Place {
  readonly address: string;
  readonly prefix: readonly string[];
}

export interface Network {
  readonly name: string;
  readonly source: Place;
  readonly destination: Place;
  /** Takes it down again. */
  close(): void;
}

export const loopback: Network = {
  name: 'loopback',
  source: { address: '127.0.0.1', prefix: [] },
  destination: { address: '127.0.0.1', prefix: [] },
  close: () => {},
};

/** True when the command is on the path. */
export function has(command: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v ${command}`], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** Why there can be no limited network here, or undefined when there can. */
export function noGigabit(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root (network namespaces)';
  if (!has('ip') || !has('tc')) return 'needs ip and tc: apt-get install iproute2';
  return undefined;
}

/** Two network namespaces joined by a veth pair that carries 1 Gbit/s each way (tc tbf). */
export function gigabit(): Network {
  const names = { source: `gwbs${process.pid}`, destination: `gwbd${process.pid}` };
  const run = (text: string) => execFileSync(text.split(' ')[0]!, text.split(' ').slice(1));
  const close = () => {
    for (const name of Object.values(names)) {
      try {
        run(`ip netns del ${name}`);
      } catch {
        // It was never made.
      }
    }
  };
  try {
    for (const name of Object.values(names)) run(`ip netns add ${name}`);
    run(
      `ip link add veth0 netns ${names.source} type veth peer name veth0 netns ${names.destination}`,
    );
    Object.values(names).forEach((name, i) => {
      run(`ip -n ${name} addr add 10.77.0.${i + 1}/24 dev veth0`);
      run(`ip -n ${name} link set veth0 up`);
      run(`ip -n ${name} link set lo up`);
      // The burst covers what the kernel hands over at once (GSO); the latency is the queue.
      run(`tc -n ${name} qdisc add dev veth0 root tbf rate 1gbit burst 256kb latency 20ms`);
    });
  } catch (error) {
    close();
    throw error;
  }
  const place = (name: string, host: number): Place => ({
    address: `10.77.0.${host}`,
    prefix: ['ip', 'netns', 'exec', name],
  });
  return {
    name: '1 Gbit/s',
    source: place(names.source, 1),
    destination: place(names.destination, 2),
    close,
  };
}
