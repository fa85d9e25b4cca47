import { parseArgs } from 'node:util';
import { GodwitError } from '../../errors.ts';
import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import { parseCount, parseDuration, parseSize } from '../../units.ts';
import type { GuestDescription } from '../guest.ts';
import { DEFAULT_MIX, parseContentMix } from './content-mix.ts';
import { MAX_VCPUS, requireGuestName, type Shape, shapeOf } from './device-model.ts';
import type { GuestProgram } from './machine.ts';
import { WORKLOADS, type WorkloadSettings, workloadSettings } from './workload.ts';

const MIB = 2 ** 20;

export const VMM_HELP = `A simulated guest: one process, real memory, vCPU threads that write it.

  --name NAME          guest name (required)
  --dir DIR            directory of the control socket NAME.sock (required)
  --ram-dir DIR        directory of the RAM file (default /dev/shm)
  --memory SIZE        guest memory (default 512MiB; a multiple of 1MiB)
  --vcpus N            vCPU threads (default 2)
  --workload NAME      ${WORKLOADS.join(', ')} (default idle)
  --rate N|full        pages written per second by all vCPUs
  --working-set SIZE   memory that is written to
  --in-place PERCENT   writes that change a page in a few places (default 70)
  --period TIME        phased: from one busy phase to the next (default 4s)
  --content MIX        page kinds (default zero=30,text=25,binary=30,random=5,duplicate=10)
  --seed N             seed of content and workload (default 1)
  --device-state SIZE  size of the device state (default 64KiB)
  --log FILE           append what happens to the guest
  --incoming           wait for a guest to migrate in
  --description JSON   with --incoming: the guest description, instead of the options above
  --kept FILE          with --incoming: a file in --ram-dir with memory of the guest, which becomes its RAM file
  --help
`;

export interface VmmOptions {
  readonly dir: string;
  readonly ramDir: string;
  /** What becomes the RAM file of a guest that arrives; undefined: a fresh one. */
  readonly kept?: string | undefined;
  readonly logFile: string | undefined;
  readonly shape: Shape;
  /** Undefined: a guest will migrate in. */
  readonly program: GuestProgram | undefined;
}

/** Undefined when help is asked for. @throws GodwitError bad-option, bad-message */
export function parseVmmOptions(args: readonly string[]): VmmOptions | undefined {
  const given = parse(args);
  if (given.help) return undefined;
  const dir = required(given.dir, '--dir');
  const common = { dir, ramDir: given['ram-dir'], logFile: given.log };
  if (given.incoming) {
    const shape = shapeOf(parseDescription(required(given.description, '--description')));
    return { ...common, shape, program: undefined, kept: given.kept };
  }
  const name = requireGuestName(required(given.name, '--name'), '--name');
  const vcpus = parseCount(given.vcpus, '--vcpus', { min: 1, max: MAX_VCPUS });
  // Each vCPU has chunks of its own, and the check table takes the last page or more.
  const memory = parseSize(given.memory, '--memory', { min: (vcpus + 1) * MIB, max: 2 ** 43 });
  if (memory % MIB !== 0)
    throw new GodwitError('bad-option', '--memory must be a multiple of 1 MiB');
  return { ...common, shape: { name, memory, vcpus }, program: programOf(given) };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        name: { type: 'string' },
        dir: { type: 'string' },
        'ram-dir': { type: 'string', default: '/dev/shm' },
        memory: { type: 'string', default: '512MiB' },
        vcpus: { type: 'string', default: '2' },
        workload: { type: 'string', default: 'idle' },
        rate: { type: 'string' },
        'working-set': { type: 'string' },
        'in-place': { type: 'string' },
        period: { type: 'string' },
        content: { type: 'string' },
        seed: { type: 'string', default: '1' },
        'device-state': { type: 'string', default: '64KiB' },
        log: { type: 'string' },
        incoming: { type: 'boolean', default: false },
        description: { type: 'string' },
        kept: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (cause) {
    throw new GodwitError('bad-option', (cause as Error).message, { cause });
  }
}

type Given = ReturnType<typeof parse>;

function programOf(given: Given): GuestProgram {
  return {
    seed: parseCount(given.seed, '--seed', { min: 0, max: 2 ** 32 - 1 }),
    mix: given.content === undefined ? DEFAULT_MIX : parseContentMix(given.content, '--content'),
    settings: workloadSettings(given.workload, chosenSettings(given)),
    paddedSize: parseSize(given['device-state'], '--device-state', { max: 256 * MIB }),
  };
}

function chosenSettings(given: Given): Partial<Omit<WorkloadSettings, 'workload'>> {
  const { rate, 'working-set': workingSet, 'in-place': inPlace, period } = given;
  return {
    ...(rate !== undefined && {
      rate: rate === 'full' ? rate : parseCount(rate, '--rate', { max: 1e9 }),
    }),
    ...(workingSet !== undefined && {
      workingSet: parseSize(workingSet, '--working-set', { min: PAGE_SIZE }),
    }),
    ...(inPlace !== undefined && { inPlace: parseCount(inPlace, '--in-place', { max: 100 }) }),
    ...(period !== undefined && {
      period: parseDuration(period, '--period', { min: 10, max: 3_600_000 }),
    }),
  };
}

function parseDescription(text: string): GuestDescription {
  try {
    return JSON.parse(text) as GuestDescription;
  } catch (cause) {
    throw new GodwitError('bad-option', '--description is not JSON', { cause });
  }
}

function required(value: string | undefined, option: string): string {
  if (value !== undefined && value !== '') return value;
  throw new GodwitError('bad-option', `${option} is required; --help shows all options`);
}
