import os from 'node:os';
import path from 'node:path';

export type Agent = 'agent-send' | 'agent-recv';

/** Where an agent keeps its things unless told otherwise. */
export interface DefaultPaths {
  readonly socket: string;
  readonly stateDir: string;
  /** Records of who has each guest, shared by the agents of a host. */
  readonly hostDir: string;
  readonly guestDir: string;
  /** The operator's files about QEMU guests. */
  readonly definitions: string;
}

/**
 * Root uses the system's places, anybody else their own. Guests that were received stand in a
 * directory of their own, so that both agents can run on one host with all defaults.
 */
export function defaultPaths(agent: Agent): DefaultPaths {
  const root = process.getuid?.() === 0;
  const run = root ? '/run/godwit' : userRunDir();
  const state = root ? '/var/lib/godwit' : path.join(os.homedir(), '.local/state/godwit');
  const config = root ? '/etc/godwit' : path.join(os.homedir(), '.config/godwit');
  const variable = agent === 'agent-send' ? 'GODWIT_SEND_SOCKET' : 'GODWIT_RECV_SOCKET';
  return {
    socket: process.env[variable] || path.join(run, `${agent}.sock`),
    stateDir: path.join(state, agent),
    hostDir: path.join(state, 'host'),
    guestDir:
      agent === 'agent-recv'
        ? path.join(run, 'guests-received')
        : process.env.GODWIT_GUEST_DIR || path.join(run, 'guests'),
    definitions: path.join(config, 'guests.d'),
  };
}

function userRunDir(): string {
  const { XDG_RUNTIME_DIR } = process.env;
  return XDG_RUNTIME_DIR
    ? path.join(XDG_RUNTIME_DIR, 'godwit')
    : path.join(os.tmpdir(), `godwit-${process.getuid?.() ?? 'user'}`);
}
