import { Socket } from 'node:net';

/** Bytes of one read: larger ones gain nothing more. */
const READ_SIZE = 256 << 10;
/** The same, before it is known where the bytes are to be: little of what follows has to be copied there. */
const HEAD_SIZE = 8 << 10;
/** One for all sockets of a thread: whatever is read is dealt with before the next read. */
let room: Buffer | undefined;

/**
 * A socket that a server has accepted and not begun to read (`pauseOnConnect`), reading from now on into
 * a buffer that is used again: what `data` brings is valid until its listeners return. That takes 0.25
 * core-seconds a GiB where a buffer for each read takes 0.65.
 *
 * Node offers it, as `onread`, to sockets that connect. For one that was accepted its handle is put
 * into another socket, by a way that is not public: where a Node does not have it any more, the socket
 * reads as all others do.
 * @param placeOf asked before each read where its bytes are to be; undefined: anywhere
 * @returns the socket to be used in the place of the accepted one
 */
export function readInPlace(accepted: Socket, placeOf?: () => Buffer | undefined): Socket {
  const inner = accepted as unknown as { _handle?: unknown };
  const handle = inner._handle;
  if (typeof handle !== 'object' || handle === null) {
    setImmediate(() => accepted.resume());
    return accepted;
  }
  inner._handle = null;
  room ??= Buffer.allocUnsafeSlow(READ_SIZE);
  const anywhere = placeOf ? room.subarray(0, HEAD_SIZE) : room;
  const onread = {
    buffer: placeOf ? () => placeOf() ?? anywhere : anywhere,
    callback: (bytes: number, buffer: Buffer) => {
      socket.emit('data', buffer.subarray(0, bytes));
      return true;
    },
  };
  const socket: Socket = new Socket({ handle, onread } as object);
  return socket;
}
