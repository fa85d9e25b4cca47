import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type ErrorCode, GodwitError } from '../../errors.ts';
import { socketPath } from './socket-claim.ts';

/** The options of vmm.ts, in its own words; see `VMM_HELP`. */
export interface BootOptions {
  readonly name: string;
  readonly dir: string;
  readonly ramDir?: string;
  readonly memory?: string;
  readonly vcpus?: number;
  readonly workload?: string;
  readonly rate?: number | 'full';
  readonly workingSet?: string;
  readonly inPlace?: number;
  readonly period?: string;
  readonly content?: string;
  readonly seed?: number;
  readonly deviceState?: string;
  readonly log?: string;
}

export interface RunningVmm {
  readonly pid: number;
  readonly socket: string;
}

/** A VMM says by these codes why it did not start; any other text is of a crash. */
const START_CODES: readonly ErrorCode[] = [
  ...(['bad-option', 'bad-message', 'guest-exists', 'memory-insufficient'] as const),
  ...(['ram-file-failed', 'listen-failed', 'claim-failed'] as const),
];
/** Start-up errors are a line; a crash may print a stack. */
const MAX_ERROR_BYTES = 16 * 1024;

/** Starts a fresh guest in a process of its own and waits until it runs. @throws as `startVmm` */
export function bootSimulatedGuest(options: BootOptions): Promise<RunningVmm> {
  const args = Object.entries(options)
    .filter(([, value]) => value !== undefined)
    .flatMap(([key, value]) => [`--${key.replace(/[A-Z]/g, dashed)}`, String(value)]);
  return startVmm(args, socketPath(options.dir, options.name));
}

/**
 * Starts a VMM that outlives this process, and waits until its control socket accepts.
 * @throws GodwitError with the VMM's own words: guest-exists, memory-insufficient, ram-file-failed …
 */
export async function startVmm(args: readonly string[], socket: string): Promise<RunningVmm> {
  const entry = fileURLToPath(new URL('vmm.ts', import.meta.url));
  const child = spawn(process.execPath, [entry, ...args], {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: '/',
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let complaint = '';
  child.stderr.on('data', (text) => {
    complaint = (complaint + text).slice(0, MAX_ERROR_BYTES);
  });
  child.stdout.once('data', () => resolve());
  child.once('error', (error) => reject(startFailure(error.message)));
  child.once('close', () => reject(startFailure(complaint.trim())));
  try {
    await promise;
  } finally {
    child.stdout.destroy();
    child.stderr.destroy();
    child.unref();
  }
  return { pid: child.pid!, socket };
}

function startFailure(text: string): GodwitError {
  const [, word = '', message = ''] = /^([a-z-]+): (.*)$/.exec(text) ?? [];
  const code = START_CODES.find((known) => known === word);
  if (code !== undefined) return new GodwitError(code, message);
  return new GodwitError(
    'hypervisor-failed',
    `the VMM did not start: ${text || 'no reason given'}`,
  );
}

function dashed(letter: string): string {
  return `-${letter.toLowerCase()}`;
}
