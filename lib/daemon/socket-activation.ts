import { GodwitError } from '../errors.ts';

/** Inherited sockets begin after stdin, stdout and stderr (sd_listen_fds(3)). */
const FIRST_FD = 3;

type Environment = Record<string, string | undefined>;

/**
 * The file descriptor of the listening socket that the service manager passes to this process, or
 * undefined when it passes none. The variables are taken out of the environment, so that no child
 * takes them for its own; Node itself keeps the descriptor from children.
 * @throws GodwitError listen-failed when it is not exactly one
 */
export function takeActivatedSocket(
  env: Environment = process.env,
  pid = process.pid,
): number | undefined {
  const { LISTEN_PID, LISTEN_FDS } = env;
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) delete env[name];
  // A launcher that does not exec, or a parent that is itself activated: they are not for us.
  if (LISTEN_PID !== String(pid) || LISTEN_FDS === undefined) return undefined;
  if (LISTEN_FDS === '1') return FIRST_FD;
  throw new GodwitError(
    'listen-failed',
    `the service manager passes ${JSON.stringify(LISTEN_FDS)} sockets, but this takes one: give the socket unit one ListenStream=`,
  );
}
