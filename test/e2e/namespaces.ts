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

/** A network namespace that has nothing but itself. */
export function cutOff(): { readonly within: readonly string[]; close(): void } {
  const name = `gwcut${process.pid}x${made++}`;
  ip(`netns add ${name}`);
  return { within: ['ip', 'netns', 'exec', name], close: () => ip(`netns del ${name}`) };
}

/** Two network namespaces joined by a pair of virtual cards; one is set down for a cut. */
export function twoNamespaces(): CuttableNetwork {
  return namespaces(2, ([source, destination]) => {
    ip(`link add veth0 netns ${source} type veth peer name veth0 netns ${destination}`);
  });
}

/** A network whose middle carries small packets only, and says so to nobody, while there is a hole. */
export interface HoledNetwork extends CuttableNetwork {
  hole(there: boolean): void;
}

/** Two namespaces with large packets, and a bridge in a third one between them. */
export function bridgedNamespaces(): HoledNetwork {
  let middle = '';
  const network = namespaces(3, ([source, destination, between]) => {
    middle = between!;
    ip(`-n ${middle} link add bridge type bridge`);
    [source, destination].forEach((name, i) => {
      ip(`link add veth0 netns ${name} type veth peer name port${i} netns ${middle}`);
      ip(`-n ${middle} link set port${i} mtu 9000 master bridge up`);
      // What is handed to the card is what a wire would carry.
      ip(`-n ${name} link set veth0 mtu 9000 gso_max_segs 1`);
    });
    ip(`-n ${middle} link set bridge up`);
  });
  const hole = (there: boolean) => {
    for (const port of ['port0', 'port1'])
      ip(`-n ${middle} link set ${port} mtu ${there ? 1400 : 9000}`);
  };
  return { ...network, hole };
}

/** Lets the source send that fast, bits per second, with that many bytes waiting on the way. */
export function slowDown(network: Network, rate: string, queue: string): void {
  const [ipCommand, ...rest] = network.source;
  const words = `tc qdisc add dev veth0 root tbf rate ${rate} burst 16kb limit ${queue}`;
  execFileSync(ipCommand!, [...rest, ...words.split(' ')], { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** The first two get addresses on the veth0 that `link` has made. */
function namespaces(count: number, link: (names: readonly string[]) => void): CuttableNetwork {
  const id = `${process.pid}x${made++}`;
  const names = ['s', 'd', 'm'].slice(0, count).map((which) => `gwe${which}${id}`);
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
    link(names);
    names.slice(0, 2).forEach((name, i) => {
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

/** Hosts around a switch; each can be cut off from all others. */
export interface Star {
  /** Of each host, as the others reach it. */
  readonly addresses: readonly string[];
  /** The commands that put an agent there. */
  readonly prefixes: readonly (readonly string[])[];
  cut(host: number): void;
  join(host: number): void;
  /** Takes it down for good. */
  close(): void;
}

/** Network namespaces on a bridge; the cable of a host is set down for a cut. */
export function star(hosts: number): Star {
  const id = `${process.pid}x${made++}`;
  const hub = `gwhub${id}`;
  const names = Array.from({ length: hosts }, (_, i) => `gwh${i}n${id}`);
  const close = () => {
    for (const name of [hub, ...names]) {
      try {
        ip(`netns del ${name}`);
      } catch {
        // It was never made.
      }
    }
  };
  const address = (i: number) => `10.79.0.${i + 1}`;
  try {
    for (const name of [hub, ...names]) ip(`netns add ${name}`);
    ip(`-n ${hub} link add br0 type bridge`);
    ip(`-n ${hub} link set br0 up`);
    names.forEach((name, i) => {
      ip(`link add cable${i} netns ${hub} type veth peer name eth0 netns ${name}`);
      ip(`-n ${hub} link set cable${i} master br0`);
      ip(`-n ${hub} link set cable${i} up`);
      ip(`-n ${name} addr add ${address(i)}/24 dev eth0`);
      ip(`-n ${name} link set eth0 up`);
      ip(`-n ${name} link set lo up`);
    });
  } catch (error) {
    close();
    throw error;
  }
  return {
    addresses: names.map((_, i) => address(i)),
    prefixes: names.map((name) => ['ip', 'netns', 'exec', name]),
    cut: (i) => ip(`-n ${hub} link set cable${i} down`),
    join: (i) => ip(`-n ${hub} link set cable${i} up`),
    close,
  };
}

function ip(words: string): void {
  execFileSync('ip', words.split(' '), { stdio: ['ignore', 'ignore', 'pipe'] });
}
