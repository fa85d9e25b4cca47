import fs from 'node:fs';
import { type Agent, type DefaultPaths, defaultPaths } from '../daemon/paths.ts';
import { Failure, OCF } from './call.ts';

/** Where an agent has its things. */
export interface Places extends DefaultPaths {
  readonly ramDir: string;
  readonly libvirtSocket: string | undefined;
}

/**
 * As the agent's file of options has it; without a file, what holds otherwise.
 * @throws Failure configured
 */
export function placesOf(agent: Agent, file: string): Places {
  const paths = defaultPaths(agent);
  const options = optionsIn(file);
  const given = (name: string) => {
    const value = options[name];
    return typeof value === 'string' ? value : undefined;
  };
  return {
    socket: given('socket') ?? paths.socket,
    stateDir: given('state-dir') ?? paths.stateDir,
    hostDir: given('host-dir') ?? paths.hostDir,
    guestDir: given('guest-dir') ?? paths.guestDir,
    definitions: given('definitions') ?? paths.definitions,
    ramDir: given('ram-dir') ?? '/dev/shm',
    libvirtSocket: given('libvirt-socket'),
  };
}

function optionsIn(file: string): Readonly<Record<string, unknown>> {
  try {
    return JSON.parse(fs.readFileSync(file, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new Failure(`${file}: ${(error as Error).message}`, OCF.configured);
  }
}
