import { GodwitError } from '../../errors.ts';
import { type Finding, lookAt, notKnown } from '../../finding.ts';
import { formatSize } from '../../units.ts';
import type { GuestOutline } from '../hypervisor.ts';
import { whyNotStarted } from '../program.ts';
import type { GuestDefinition } from './definition.ts';
import { streamSocket } from './destination.ts';
import { machineOf } from './machine.ts';
import { requireAllowed } from './placement.ts';
import { requireUnserved } from './process.ts';
import type { QmpClient, QmpOptions } from './qmp.ts';
import { requireRoomFor } from './ram-files.ts';
import { requireRoom } from './staging.ts';
import { connectWaiting, requireIncoming } from './waiting.ts';

export interface Look {
  readonly definition: GuestDefinition;
  readonly guest: GuestOutline;
  readonly verify: boolean;
  /** Where memory is staged that QEMU gets in its stream. */
  readonly stagingDir: string;
  /** Bytes that would be given up for it. */
  readonly spare: number;
  readonly limits: QmpOptions;
}

/** What stands in the way of a guest that would arrive by this definition; starts and makes nothing. */
export async function canTake(look: Look): Promise<readonly Finding[]> {
  const { definition, guest } = look;
  const fits = lookAt('definition', () => {
    streamSocket(definition);
    requireAllowed(definition, guest.memoryBytes);
    if (look.verify && definition.ram.length === 0) throw cannotRead(definition);
    return definition.file;
  });
  const place = definition.command === undefined ? ofWaiting(look) : ofCommand(look);
  return [await fits, ...(await place)];
}

/** QEMU would be started. */
async function ofCommand({
  definition,
  guest,
  stagingDir,
  spare,
}: Look): Promise<readonly Finding[]> {
  const command = definition.command!;
  const { ram } = definition;
  const { memoryBytes } = guest;
  return [
    await lookAt('command', () => {
      const why = whyNotStarted(command[0]!);
      if (why !== undefined)
        throw new GodwitError('hypervisor-failed', `${definition.file}: ${command[0]} ${why}`);
      return `${command[0]} can be started`;
    }),
    machineFinding(guest.machine, machineOf(command), definition),
    await lookAt('name', async () => {
      await requireUnserved(definition);
      return `nothing serves ${definition.qmp}`;
    }),
    await memoryFinding(ram, memoryBytes, spare, stagingDir),
  ];
}

async function memoryFinding(
  ram: GuestDefinition['ram'],
  bytes: number,
  spare: number,
  stagingDir: string,
): Promise<Finding> {
  let told = true;
  const finding = await lookAt('ram-files', () => {
    const needed = Math.max(0, bytes - spare);
    if (ram.length > 0) told = requireRoomFor(ram, needed);
    else requireRoom(stagingDir, needed);
    return `room for ${formatSize(bytes)}, video memory and firmware aside`;
  });
  const text = `the RAM files of the guest are on several file systems: which needs how much room is known when it arrives`;
  return told ? finding : notKnown('ram-files', text);
}

/** The QEMU that waits is taken; its memory is its own already. */
async function ofWaiting({ definition, guest, limits }: Look): Promise<readonly Finding[]> {
  let machine: string | undefined;
  const waits = await lookAt('name', async () => {
    const qmp = await connectWaiting(definition, limits);
    try {
      await requireIncoming(definition, qmp);
      machine = await machineBehind(qmp);
    } finally {
      qmp.close();
    }
    return `the QEMU that serves ${definition.qmp} waits for the guest`;
  });
  if (machine === undefined) return [waits];
  return [waits, machineFinding(guest.machine, machine, definition)];
}

/** The machine type of a QEMU, as `pc-q35-10.0`. @throws GodwitError hypervisor-failed, not-seen */
export async function machineBehind(qmp: QmpClient): Promise<string> {
  const request = { path: '/machine', property: 'type' };
  return (await qmp.execute<string>('qom-get', request)).replace(/-machine$/, '');
}

/** Types with a version fit themselves only; without one, what QEMU makes of them is seen when it runs. */
export function machineFinding(
  needed: string,
  given: string | undefined,
  { file }: Pick<GuestDefinition, 'file'>,
): Finding {
  const about = 'machine';
  if (given === needed) return { about, verdict: 'ok', code: '', text: needed };
  const name = `name -machine ${needed} there`;
  if (given === undefined)
    return notKnown(about, `${file} names no machine, and the guest has ${needed}: ${name}`);
  if (canBe(given, needed))
    return notKnown(
      about,
      `${file} has machine ${given}, and which version that is its QEMU knows; the guest has ${needed}: ${name}`,
    );
  const text = `${file} has machine ${given}, and the guest has ${needed}: ${name}`;
  return { about, verdict: 'no', code: 'definition-invalid', text };
}

/** QEMU's short names for the newest version of a type; those of distributions are not known. */
const ALIASES: Readonly<Record<string, string>> = { q35: 'pc-q35-', pc: 'pc-i440fx-' };

function canBe(given: string, needed: string): boolean {
  const begins = ALIASES[given];
  if (begins !== undefined) return needed.startsWith(begins);
  return !/-\d+\.\d+$/.test(given);
}

function cannotRead({ file }: GuestDefinition): GodwitError {
  const text = `--verify reads memory again, and that of the guest cannot be read here: ${file} has no "ram"`;
  return new GodwitError('definition-invalid', text);
}
