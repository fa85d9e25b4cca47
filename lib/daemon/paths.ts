import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

export type Agent = 'agent-send' | 'agent-recv';

/** Of the agents that are services of a host. */
const HOST_RUN_DIR = '/run/godwit';
const SOCKET_VARIABLES = {
  'agent-send': 'GODWIT_SEND_SOCKET',
  'agent-recv': 'GODWIT_RECV_SOCKET',
} as const;

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
  const run = root ? HOST_RUN_DIR : userRunDir();
  const state = root ? '/var/lib/godwit' : path.join(os.homedir(), '.local/state/godwit');
  const config = root ? '/etc/godwit' : path.join(os.homedir(), '.config/godwit');
  return {
    socket: process.env[SOCKET_VARIABLES[agent]] || path.join(run, `${agent}.sock`),
    stateDir: path.join(state, agent),
    hostDir: path.join(state, 'host'),
    guestDir:
      agent === 'agent-recv'
        ? path.join(run, 'guests-received')
        : process.env.GODWIT_GUEST_DIR || path.join(run, 'guests'),
    definitions: path.join(config, 'guests.d'),
  };
}

/**
 * The control socket that a command asks: the user's own agent where there is one, else the host's where its
 * group lets the user in, so that an operator who is in that group names no socket.
 */
export function socketToAsk(agent: Agent): string {
  const { socket } = defaultPaths(agent);
  const ofHost = path.join(HOST_RUN_DIR, `${agent}.sock`);
  const isGiven = Boolean(process.env[SOCKET_VARIABLES[agent]]);
  return isGiven || canUse(socket) || !canUse(ofHost) ? socket : ofHost;
}

function canUse(socket: string): boolean {
  try {
    fs.accessSync(socket, fs.constants.R_OK | fs.constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function userRunDir(): string {
  const { XDG_RUNTIME_DIR } = process.env;
  return XDG_RUNTIME_DIR
    ? path.join(XDG_RUNTIME_DIR, 'godwit')
    : path.join(os.tmpdir(), `godwit-${process.getuid?.() ?? 'user'}`);
}
