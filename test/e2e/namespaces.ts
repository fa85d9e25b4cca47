import { execFileSync } from 'node:child_process';
import type { Network } from './hosts.ts';

/** A network between two hosts that can be cut and joined again. */
export interface CuttableNetwork extends Network {
  cut(): void;
  join(): void;
  /** Takes it down for good. */
  close(): void;
}

/** Why there can be no namespaces here, or undefined when there can. */
export function noNamespaces(): string | undefined {
  if (process.getuid?.() !== 0) return 'network namespaces need root';
  const name = `gwprobe${process.pid}`;
  try {
    ip(`netns add ${name}`);
    ip(`netns del ${name}`);
    return undefined;
  } catch (error) {
    return `network namespaces cannot be made: ${(error as Error).message.trim()}`;
  }
}

let made = 0;

/** Two network namespaces joined by a pair of virtual cards; one is set down for a cut. */
export function twoNamespaces(): CuttableNetwork {
  const id = `${process.pid}x${made++}`;
  const names = [`gwes${id}`, `gwed${id}`] as const;
  const close = () => {
    for (const name of names) {
      try {
        ip(`netns del ${name}`);
      } catch {
        // It was never made.
      }
    }
  };
  try {
    for (const name of names) ip(`netns add ${name}`);
    ip(`link add veth0 netns ${names[0]} type veth peer name veth0 netns ${names[1]}`);
    names.forEach((name, i) => {
      ip(`-n ${name} addr add 10.78.0.${i + 1}/24 dev veth0`);
      ip(`-n ${name} link set veth0 up`);
      ip(`-n ${name} link set lo up`);
    });
  } catch (error) {
    close();
    throw error;
  }
  const [source, destination] = names.map((name) => ['ip', 'netns', 'exec', name]);
  return {
    address: '10.78.0.2',
    source: source!,
    destination: destination!,
    cut: () => ip(`-n ${names[0]} link set veth0 down`),
    join: () => ip(`-n ${names[0]} link set veth0 up`),
    close,
  };
}

function ip(words: string): void {
  execFileSync('ip', words.split(' '), { stdio: ['ignore', 'ignore', 'pipe'] });
}
