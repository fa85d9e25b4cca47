import fs from 'node:fs';
import path from 'node:path';
import { ControlClient } from '../../lib/control/client.ts';
import type { MigrationRequest, MigrationView } from '../../lib/control/view.ts';
import { Daemon } from '../e2e/hosts.ts';
import { RAM_BLOCK } from './bench-machine.ts';
import type { Bed, Method, Mover } from './bench-method.ts';

const GUEST = 'vm1';
/** QEMU's default downtime-limit. */
const PAUSE_BELOW_MS = 300;
/** A benchmark is no place to roll back. */
const ROOMY_MS = 10_000;

/** Both agents with two channels, as they are when nothing else is said. */
export function byGodwit(placement: 'direct' | 'stream'): Method {
  const memory = placement === 'direct' ? 'file' : 'anonymous';
  return { name: `Godwit ${placement}`, memory, open: (bed) => startAgents(bed) };
}

async function startAgents(bed: Bed): Promise<Mover> {
  const { dir, network, source, destination } = bed;
  const ram = destination.ram ? [{ block: RAM_BLOCK, file: destination.ram }] : [];
  const definitions = {
    source: define(dir, 'source', { qmp: source.monitor }),
    destination: define(dir, 'destination', { qmp: destination.monitor, ram }),
  };
  const common = (side: 'source' | 'destination') => [
    ...['--insecure', '--socket', path.join(dir, `${side}.sock`), '--guest-dir', dir],
    ...['--definitions', definitions[side], '--state-dir', path.join(dir, `${side}-state`)],
  ];
  const listen = ['--listen', `${network.address}:0`];
  const recv = new Daemon('agent-recv', [...common('destination'), ...listen], {
    prefix: network.destination,
  });
  const send = new Daemon('agent-send', common('source'), { prefix: network.source });
  const daemons = [recv, send];
  await Promise.all(daemons.map((daemon) => daemon.ready()));
  const client = new ControlClient(path.join(dir, 'source.sock'), 'agent-send');
  return {
    pids: daemons.map((daemon) => daemon.process.pid!),
    move: () => migrate(client, network.address, recv.port!),
    end: async () => {
      await Promise.all(daemons.map((daemon) => daemon.end()));
    },
  };
}

function define(dir: string, side: string, definition: object): string {
  const definitions = path.join(dir, `${side}-definitions`);
  fs.mkdirSync(definitions, { mode: 0o700 });
  const file = path.join(definitions, `${GUEST}.json`);
  fs.writeFileSync(file, JSON.stringify({ hypervisor: 'qemu', ...definition }), { mode: 0o600 });
  return definitions;
}

async function migrate(client: ControlClient, host: string, port: number): Promise<void> {
  const request: MigrationRequest = {
    guest: GUEST,
    ...{ host, port },
    policy: 'contract',
    limits: { maxSuspendMs: ROOMY_MS, pauseBelowMs: PAUSE_BELOW_MS },
    compression: 'auto',
    verify: false,
  };
  const { id } = await client.request<MigrationView>('POST', '/migrations', request);
  let last: MigrationView | undefined;
  for await (const view of client.events(id)) last = view;
  if (last?.outcome !== 'completed') throw new Error(`Godwit ${last?.outcome}: ${last?.message}`);
}
