import fs from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { GodwitError } from '../../errors.ts';
import type { CommandArguments, Commands } from './control-server.ts';
import { DeviceStateReader } from './device-state.ts';
import { GUEST_TROUBLES, type Machine } from './machine.ts';
import { type WorkloadSettings, workloadSettings } from './workload.ts';

/** Commands that take long: a guest that is to run again meanwhile does not wait for them. */
export const LONG: ReadonlySet<string> = new Set(['self-check', 'save-device-state']);

/** The commands of the control socket; `quit` ends the process, which may leave its RAM file. */
export function machineCommands(
  machine: Machine,
  announce: (event: string, data?: Record<string, unknown>) => void,
  quit: (keepMemory: boolean) => void,
): Commands {
  /** Who has begun the dirty log. */
  let logOf: AbortSignal | undefined;
  /** The part of a device state that has arrived. */
  let arriving: DeviceStateReader | undefined;
  /** A late word of an earlier client is none about another one's log. */
  const endLogOf = (client: AbortSignal) => {
    if (client === logOf) machine.dirtyLog.stop();
  };
  return {
    'query-status': () => statusOf(machine),
    'query-guest': async () => ({
      description: machine.description,
      memory: machine.memory,
      pid: process.pid,
      deviceStateBytes: machine.deviceStateBytes,
      status: machine.status,
      settings: machine.settings,
      written: await machine.written(),
    }),
    // A client that is gone wants no log: it would cost the guest for nobody.
    'dirty-log-start': (_, left) => {
      if (left.aborted) return;
      machine.dirtyLog.start();
      logOf = left;
      left.addEventListener('abort', () => endLogOf(left), { once: true });
    },
    'dirty-log-sync': () => {
      if (!machine.dirtyLog.enabled)
        throw new GodwitError('hypervisor-failed', 'the dirty log is not on');
      return { bitmap: machine.dirtyLog.harvest().toString('base64') };
    },
    'dirty-log-stop': (_, left) => endLogOf(left),
    stop: async ({ by = 'operator' }) => {
      if (by !== 'operator' && by !== 'agent') throw badArgument('by', 'operator or agent');
      if (await machine.suspend(by)) announce('STOP', statusOf(machine));
      return statusOf(machine);
    },
    // What a guest may do by itself.
    fail: async ({ as }) => {
      const trouble = GUEST_TROUBLES.find((known) => known === as);
      if (trouble === undefined) throw badArgument('as', GUEST_TROUBLES.join(', '));
      if (await machine.fail(trouble)) announce('STOP', statusOf(machine));
    },
    // An agent that recalls a guest must not run one that stands for another reason.
    cont: async ({ stoppedBy }) => {
      const isMeant = stoppedBy === undefined || machine.stoppedBy === stoppedBy;
      if (isMeant && (await machine.resume())) announce('RESUME');
      return statusOf(machine);
    },
    'save-device-state': async ({ file }) => {
      if (typeof file !== 'string') throw badArgument('file', 'a path');
      const pieces = await machine.saveDeviceState();
      const tell = (written: number) => announce('DEVICE_STATE', { written });
      return { written: await writePieces(file, pieces, tell) };
    },
    // So many bytes of it are there.
    'read-device-state': ({ file, to }) => {
      arriving ??= new DeviceStateReader();
      readOn(arriving, file, to);
    },
    'load-device-state': ({ file, to }) => {
      const reader = arriving ?? new DeviceStateReader();
      arriving = undefined;
      readOn(reader, file, to);
      return machine.loadDeviceState(reader);
    },
    'query-heartbeat': async () => {
      const { ticks, suspensions, worstGapWhileRunningMs } = await machine.heartbeat();
      return { ticks, lastSuspension: suspensions.at(-1), suspensions, worstGapWhileRunningMs };
    },
    'self-check': () => machine.selfCheck(),
    'set-workload': (given) => machine.setWorkload(chosenWorkload(given)),
    quit: ({ keepMemory }) => quit(keepMemory === true),
  };
}

/** Bytes of a file that are read at a time. */
const READ_BYTES = 1 << 20;

/** What is new in the file, which is in memory. */
function readOn(reader: DeviceStateReader, file: unknown, to: unknown): void {
  if (typeof file !== 'string') throw badArgument('file', 'a path');
  if (typeof to !== 'number') throw badArgument('to', 'a number of bytes');
  const fd = opened(file, 'r');
  try {
    while (reader.bytes < to) {
      const bytes = Buffer.allocUnsafe(Math.min(READ_BYTES, to - reader.bytes));
      const got = fs.readSync(fd, bytes, 0, bytes.length, reader.bytes);
      if (got === 0) throw badArgument('file', `one of ${to} bytes, not of ${reader.bytes}`);
      reader.add(bytes.subarray(0, got));
    }
  } finally {
    fs.closeSync(fd);
  }
}

/** After each piece whatever else there is to be done is done. @returns bytes */
async function writePieces(
  file: string,
  pieces: Iterable<Buffer>,
  tell: (written: number) => void,
): Promise<number> {
  const fd = opened(file, 'r+');
  try {
    let written = 0;
    for (const piece of pieces) {
      for (let done = 0; done < piece.length; )
        done += fs.writeSync(fd, piece, done, piece.length - done, written + done);
      written += piece.length;
      tell(written);
      await setImmediate();
    }
    return written;
  } finally {
    fs.closeSync(fd);
  }
}

function opened(file: string, how: 'r' | 'r+'): number {
  try {
    return fs.openSync(file, how);
  } catch (cause) {
    throw badArgument('file', `one that can be opened (${(cause as Error).message})`);
  }
}

function statusOf({ status, stoppedBy }: Machine) {
  return { status, running: status === 'running', ...(stoppedBy && { by: stoppedBy }) };
}

function chosenWorkload(given: CommandArguments): WorkloadSettings {
  const { workload, rate } = given;
  if (typeof workload !== 'string') throw badArgument('workload', 'the name of a workload');
  const workingSet = optionalNumber(given, 'workingSet', Number.MAX_SAFE_INTEGER);
  const inPlace = optionalNumber(given, 'inPlace', 100);
  const period = optionalNumber(given, 'period', Number.MAX_SAFE_INTEGER);
  return workloadSettings(workload, {
    ...(rate === 'full' ? { rate } : optionalNumber(given, 'rate', 1e9)),
    ...workingSet,
    ...inPlace,
    ...period,
  });
}

function optionalNumber<Name extends string>(
  given: CommandArguments,
  name: Name,
  max: number,
): { [key in Name]?: number } {
  const value = given[name];
  if (value === undefined) return {};
  if (typeof value !== 'number' || !(value >= 0 && value <= max))
    throw badArgument(name, `a number from 0 to ${max}`);
  return { [name]: value } as { [key in Name]?: number };
}

function badArgument(name: string, what: string): GodwitError {
  return new GodwitError('bad-option', `argument "${name}" must be ${what}`);
}
