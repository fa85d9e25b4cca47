import fs from 'node:fs';
import { afterEach, expect, test, vi } from 'vitest';
import { defaultPaths, socketToAsk } from '../../lib/daemon/paths.ts';

afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

function as(uid: number, env: Record<string, string> = {}): void {
  vi.spyOn(process, 'getuid').mockReturnValue(uid);
  const names = ['GODWIT_SEND_SOCKET', 'GODWIT_RECV_SOCKET', 'XDG_RUNTIME_DIR', 'HOME', 'TMPDIR'];
  for (const name of names) vi.stubEnv(name, env[name]);
}

test('root uses the places of the system', () => {
  as(0);
  expect(defaultPaths('agent-send')).toEqual({
    socket: '/run/godwit/agent-send.sock',
    stateDir: '/var/lib/godwit/agent-send',
    hostDir: '/var/lib/godwit/host',
    guestDir: '/run/godwit/guests',
    definitions: '/etc/godwit/guests.d',
  });
});

test('anybody else uses their own', () => {
  as(1000, { XDG_RUNTIME_DIR: '/run/user/1000', HOME: '/home/ann' });
  expect(defaultPaths('agent-recv')).toEqual({
    socket: '/run/user/1000/godwit/agent-recv.sock',
    stateDir: '/home/ann/.local/state/godwit/agent-recv',
    hostDir: '/home/ann/.local/state/godwit/host',
    guestDir: '/run/user/1000/godwit/guests-received',
    definitions: '/home/ann/.config/godwit/guests.d',
  });
  as(1000, { HOME: '/home/ann' });
  expect(defaultPaths('agent-recv').socket).toBe('/tmp/godwit-1000/agent-recv.sock');
});

test('on one host the two agents share what is said and kept of guests, and nothing else', () => {
  as(0);
  const { definitions, hostDir, ...send } = defaultPaths('agent-send');
  const { definitions: same, hostDir: shared, ...recv } = defaultPaths('agent-recv');
  expect([same, shared]).toEqual([definitions, hostDir]);
  expect(new Set([...Object.values(send), ...Object.values(recv)]).size).toBe(6);
});

test('each agent has its variable for the socket; an empty one does not count', () => {
  as(0, { GODWIT_SEND_SOCKET: '/x/send.sock', GODWIT_RECV_SOCKET: '' });
  expect(defaultPaths('agent-send').socket).toBe('/x/send.sock');
  expect(defaultPaths('agent-recv').socket).toBe('/run/godwit/agent-recv.sock');
});

test("a command of somebody who has no agent asks the host's, if its group lets them", () => {
  const own = '/run/user/1000/godwit/agent-send.sock';
  const ofHost = '/run/godwit/agent-send.sock';
  const usable = new Set<unknown>();
  const denied = Object.assign(new Error('no'), { code: 'EACCES' });
  vi.spyOn(fs, 'accessSync').mockImplementation((file) => {
    if (!usable.has(file)) throw denied;
  });
  as(1000, { XDG_RUNTIME_DIR: '/run/user/1000' });
  expect(socketToAsk('agent-send')).toBe(own);
  usable.add(ofHost);
  expect(socketToAsk('agent-send')).toBe(ofHost);
  usable.add(own);
  expect(socketToAsk('agent-send')).toBe(own);
  usable.delete(own);
  as(1000, { GODWIT_SEND_SOCKET: '/x/send.sock' });
  expect(socketToAsk('agent-send')).toBe('/x/send.sock');
});
