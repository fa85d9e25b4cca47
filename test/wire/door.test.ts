import net from 'node:net';
import { afterEach, expect, test, vi } from 'vitest';
import { admit } from '../../lib/wire/door.ts';

afterEach(() => {
  vi.useRealTimers();
});

test('a stranger may be silent for as long as a peer, and no longer', () => {
  const peerTimeoutMs = 60_000;
  vi.useFakeTimers();
  const socket = new net.Socket();
  const wants = () => {
    throw new Error('it has said nothing');
  };
  const turnedAway = vi.fn();
  const options = { offer: wants, rejoin: wants, recover: wants, check: wants };
  const control = admit(socket, { ...options, peerTimeoutMs, onTurnedAway: turnedAway });
  const gone = vi.spyOn(control, 'destroy');
  vi.advanceTimersByTime(peerTimeoutMs - 1);
  expect(gone).not.toHaveBeenCalled();
  vi.advanceTimersByTime(1);
  expect(gone).toHaveBeenCalledWith(expect.objectContaining({ code: 'peer-silent' }));
  socket.destroy();
});
