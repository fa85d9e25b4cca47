import { readlinkSync, statSync } from 'node:fs';
import { GodwitError } from '../../errors.ts';
import type { KeptFiles } from '../hypervisor.ts';
import { ProcessLog } from '../process-log.ts';
import type { GuestDefinition } from './definition.ts';
import { type StartedQemu, startQemu } from './process.ts';
import { QmpClient, type QmpOptions } from './qmp.ts';

/** Lines of an attached QEMU's output in an error, as of one that was started here. */
const WORDS = 4;

/**
 * What the destination has to have on, where QEMU knows it: the return path to hear how it went,
 * events, and disk images that it opens only when the guest is resumed, so that the source can have
 * them back until then. Everything else changes the stream or what is done with it and is off.
 */
const NEEDED = ['return-path', 'events', 'late-block-activate'];

/** A QEMU that waits for a guest. */
export interface WaitingQemu extends StartedQemu {
  /** It was not started for this migration. */
  readonly attached: boolean;
}

/**
 * Starts the command of a definition, or takes the QEMU that waits already where there is none.
 * @param ramSizes bytes of each RAM block by its name
 * @param kept as for `Hypervisor.arrive`: one that waits already has its memory
 * @throws GodwitError as `startQemu`; hypervisor-failed, guest-exists when no QEMU waits
 */
export async function waitingQemu(
  definition: GuestDefinition,
  ramSizes: ReadonlyMap<string, number>,
  logFile: string,
  kept?: KeptFiles,
): Promise<WaitingQemu> {
  if (definition.command === undefined) return attachWaiting(definition);
  return { ...(await startQemu({ definition, ramSizes, logFile, kept })), attached: false };
}

/**
 * Prepares it for a guest that is not to run until it is resumed.
 * @throws GodwitError hypervisor-failed
 */
export async function setCapabilities(qmp: QmpClient): Promise<void> {
  const known = await qmp.execute<{ capability: string; state: boolean }[]>(
    'query-migrate-capabilities',
  );
  const capabilities = known
    .map(({ capability, state }) => ({ capability, is: state, state: NEEDED.includes(capability) }))
    .filter(({ is, state }) => is !== state)
    .map(({ capability, state }) => ({ capability, state }));
  await qmp.execute('migrate-set-capabilities', { capabilities });
}

/**
 * The monitor of a QEMU that waits already; the caller closes it.
 * @throws GodwitError hypervisor-failed when none is there
 */
export function connectWaiting(
  { name, file, qmp: path }: GuestDefinition,
  options: QmpOptions = {},
): Promise<QmpClient> {
  return QmpClient.connect(path, options).catch((cause: Error) => {
    const text = `no QEMU waits for guest ${name}, and ${file} has no "command" to start one: ${cause.message}`;
    throw new GodwitError('hypervisor-failed', text, { cause });
  });
}

async function attachWaiting(definition: GuestDefinition): Promise<WaitingQemu> {
  const qmp = await connectWaiting(definition);
  try {
    return await identified(definition, qmp);
  } catch (error) {
    qmp.close();
    throw error;
  }
}

/** @throws GodwitError guest-exists when the QEMU that serves the guest's monitor does not wait for it */
export async function requireIncoming(
  { name, qmp: path }: GuestDefinition,
  qmp: QmpClient,
): Promise<void> {
  const { status } = await qmp.execute<{ status: string }>('query-status');
  if (status === 'inmigrate') return;
  const text = `guest ${name} is here already: the QEMU that serves ${path} is ${status}; one that waits has -incoming defer`;
  throw new GodwitError('guest-exists', text);
}

async function identified(definition: GuestDefinition, qmp: QmpClient) {
  await requireIncoming(definition, qmp);
  await qmp.execute('stop'); // as if it had been started with -S
  const identity = await qmp.process();
  const log = outputOf(identity.pid);
  return {
    ...identity,
    qmp,
    attached: true,
    kept: [],
    lastWords: () => log?.lastWords(WORDS) ?? '',
  };
}

/** Where a process that someone else has started prints to, if that is a file. */
function outputOf(pid: number): ProcessLog | undefined {
  try {
    const file = readlinkSync(`/proc/${pid}/fd/2`);
    if (!statSync(file).isFile()) return undefined;
    const log = new ProcessLog(file);
    log.close();
    return log;
  } catch {
    return undefined;
  }
}
