import fs from 'node:fs';
import path from 'node:path';
import { ControlClient } from '../../lib/cli/client.ts';
import type { MigrationRequest, MigrationView } from '../../lib/migration/view.ts';
import { Daemon, runCommand } from '../e2e/daemon.ts';
import { RAM_BLOCK } from './bench-machine.ts';
import { type Bed, GivenUp, type Method, type Mover } from './bench-method.ts';

const GUEST = 'vm1';
/** QEMU's default downtime-limit; and a benchmark of guests that stand still is no place to roll back. */
const ROOMY: Limits = { maxSuspendMs: 10_000, pauseBelowMs: 300 };

type Side = 'source' | 'destination';
/** The sender's certificate is for this name. */
const SENDER = 'source.bench';

type Limits = MigrationRequest['limits'];

interface GodwitOptions {
  readonly secure?: boolean;
  readonly limits?: Limits;
}

/** Both agents as they are when nothing else is said. */
export function byGodwit(placement: 'direct' | 'stream', options: GodwitOptions = {}): Method {
  const memory = placement === 'direct' ? 'file' : 'anonymous';
  const name = `Godwit ${placement}${options.secure ? ', TLS' : ''}`;
  return { name, memory, open: (bed) => startAgents(bed, options) };
}

async function startAgents(
  bed: Bed,
  { secure = false, limits = ROOMY }: GodwitOptions,
): Promise<Mover> {
  const { dir, memoryDir, network, source, destination } = bed;
  const ram = destination.ram ? [{ block: RAM_BLOCK, file: destination.ram }] : [];
  const definitions = {
    source: define(dir, 'source', { qmp: source.monitor }),
    destination: define(dir, 'destination', { qmp: destination.monitor, ram }),
  };
  if (secure) await makeKeys(bed);
  const common = (side: Side) => [
    ...(secure ? keysOf(bed, side) : ['--insecure']),
    ...['--socket', path.join(dir, `${side}.sock`), '--guest-dir', dir],
    ...['--definitions', definitions[side], '--state-dir', path.join(dir, `${side}-state`)],
    ...['--host-dir', path.join(dir, `${side}-host`), '--ram-dir', memoryDir],
  ];
  const listen = ['--listen', `${network.address}:0`, ...(secure ? ['--allow-peer', SENDER] : [])];
  const recv = new Daemon('agent-recv', [...common('destination'), ...listen], {
    prefix: network.destination,
  });
  const send = new Daemon('agent-send', common('source'), { prefix: network.source });
  const daemons = [recv, send];
  await Promise.all(daemons.map((daemon) => daemon.ready()));
  const client = new ControlClient(path.join(dir, 'source.sock'), 'agent-send');
  return {
    pids: daemons.map((daemon) => daemon.process.pid!),
    move: () => migrate(client, { host: network.address, port: recv.port!, limits }),
    end: async () => {
      await Promise.all(daemons.map((daemon) => daemon.end()));
    },
  };
}

async function makeKeys({ dir, network }: Bed): Promise<void> {
  const names = [network.address, SENDER];
  const made = await runCommand('agent-recv', ['keygen', ...names, '--dir', keys(dir)], dir);
  if (made.code !== 0) throw new Error(`no keys: ${made.stderr}`);
}

function keysOf({ dir, network }: Bed, side: Side): string[] {
  const name = path.join(keys(dir), side === 'source' ? SENDER : network.address);
  const ca = path.join(keys(dir), 'ca.pem');
  return ['--tls-cert', `${name}.pem`, '--tls-key', `${name}-key.pem`, '--tls-ca', ca];
}

function keys(dir: string): string {
  return path.join(dir, 'keys');
}

function define(dir: string, side: string, definition: object): string {
  const definitions = path.join(dir, `${side}-definitions`);
  fs.mkdirSync(definitions, { mode: 0o700 });
  const file = path.join(definitions, `${GUEST}.json`);
  fs.writeFileSync(file, JSON.stringify({ hypervisor: 'qemu', ...definition }), { mode: 0o600 });
  return definitions;
}

async function migrate(
  client: ControlClient,
  terms: Pick<MigrationRequest, 'host' | 'port' | 'limits'>,
): Promise<void> {
  const request: MigrationRequest = {
    guest: GUEST,
    ...terms,
    policy: 'contract',
    compression: 'auto',
    verify: false,
  };
  const { id } = await client.request<MigrationView>('POST', '/migrations', request);
  let last: MigrationView | undefined;
  for await (const view of client.events(id)) last = view;
  if (last?.outcome === 'aborted') throw new GivenUp(last.message);
  if (last?.outcome !== 'completed') throw new Error(`Godwit ${last?.outcome}: ${last?.message}`);
}
