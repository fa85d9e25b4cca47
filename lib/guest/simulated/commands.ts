import { GodwitError } from '../../errors.ts';
import type { CommandArguments, Commands } from './control-server.ts';
import type { Machine } from './machine.ts';
import { type WorkloadSettings, workloadSettings } from './workload.ts';

/** The commands of the control socket; `quit` ends the process. */
export function machineCommands(
  machine: Machine,
  announce: (event: string) => void,
  quit: () => void,
): Commands {
  return {
    'query-status': () => ({ status: machine.status, running: machine.status === 'running' }),
    'query-guest': async () => ({
      description: machine.description,
      memory: machine.memory,
      pid: process.pid,
      status: machine.status,
      settings: machine.settings,
      written: await machine.written(),
    }),
    'dirty-log-start': () => machine.dirtyLog.start(),
    'dirty-log-sync': () => {
      if (!machine.dirtyLog.enabled)
        throw new GodwitError('hypervisor-failed', 'the dirty log is not on');
      return { bitmap: machine.dirtyLog.harvest().toString('base64') };
    },
    'dirty-log-stop': () => machine.dirtyLog.stop(),
    stop: async () => {
      if (await machine.suspend()) announce('STOP');
    },
    cont: async () => {
      if (await machine.resume()) announce('RESUME');
    },
    'save-device-state': async () => ({
      state: (await machine.saveDeviceState()).toString('base64'),
    }),
    'load-device-state': ({ state }) => {
      if (typeof state !== 'string') throw badArgument('state', 'base64');
      return machine.loadDeviceState(Buffer.from(state, 'base64'));
    },
    'query-heartbeat': async () => {
      const { ticks, suspensions, worstGapWhileRunningMs } = await machine.heartbeat();
      return { ticks, lastSuspension: suspensions.at(-1), suspensions, worstGapWhileRunningMs };
    },
    'self-check': () => machine.selfCheck(),
    'set-workload': (given) => machine.setWorkload(chosenWorkload(given)),
    quit,
  };
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
