import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LibvirtClient } from '../../../lib/guest/libvirt/rpc/client.ts';
import {
  encodeMessage,
  KEEPALIVE_PROGRAM,
  MESSAGE,
  type Message,
} from '../../../lib/guest/libvirt/rpc/message.ts';
import { PROCEDURE } from '../../../lib/guest/libvirt/rpc/procedures.ts';
import { RpcSession } from '../../../lib/guest/libvirt/rpc/session.ts';
import { XdrWriter } from '../../../lib/guest/libvirt/rpc/xdr.ts';
import { FakeLibvirtd } from './fake-libvirtd.ts';

describe('a client of libvirtd', () => {
  let daemon: FakeLibvirtd;
  beforeEach(async () => {
    daemon = new FakeLibvirtd();
    await daemon.listen();
  });
  afterEach(() => daemon.end());

  const connect = () => LibvirtClient.connect(daemon.path, { callMs: 300 });

  test('opens the system, and tells refusals in the words of libvirt', async () => {
    const client = await connect();
    daemon.onCall = ({ serial, procedure }) => {
      const words = new XdrWriter().int(42).int(10).optionalString('Domain not found');
      daemon.reply(serial, procedure, words.bytes(), 1);
    };
    await expect(client.lookup('x')).rejects.toMatchObject({
      code: 'hypervisor-failed',
      number: 42,
      message: 'libvirt refused lookupByName: Domain not found',
    });
    client.close();
  });

  test('is not let in where it would have to authenticate', async () => {
    daemon.authentication = 2;
    await expect(connect()).rejects.toThrow('wants this user to authenticate');
  });

  test('nobody listens', async () => {
    await expect(LibvirtClient.connect('/nowhere/sock')).rejects.toThrow(
      'cannot connect to libvirtd at /nowhere/sock: ENOENT',
    );
  });

  test('an answer that does not come ends the call alone, and may come later', async () => {
    const client = await connect();
    let first: Message | undefined;
    daemon.onCall = (message) => {
      first ??= message;
      if (message === first) return;
      daemon.reply(first.serial, first.procedure, Buffer.alloc(0));
      daemon.reply(message.serial, message.procedure, new XdrWriter().int(0).int(0).bytes());
    };
    await expect(client.list()).rejects.toMatchObject({
      code: 'not-seen',
      message: `libvirtd at ${daemon.path} did not answer listAll within 300 ms`,
    });
    expect(await client.list()).toEqual([]);
    client.close();
  });

  test('a connection that is lost rejects what was asked, and what is asked later', async () => {
    const client = await connect();
    const closed = new Promise((resolve) => client.onClose(resolve));
    daemon.onCall = () => daemon.hangUp();
    const lost = `libvirtd at ${daemon.path} has gone away`;
    await expect(client.list()).rejects.toThrow(lost);
    await expect(client.list()).rejects.toThrow(lost);
    expect(await closed).toMatchObject({ code: 'not-seen' });
  });

  test('nonsense ends the connection', async () => {
    const client = await connect();
    daemon.onCall = () => daemon.say(Buffer.alloc(64, 0xff));
    await expect(client.list()).rejects.toThrow('sent a message of 4294967295 bytes');
    await expect(client.list()).rejects.toThrow('sent a message');
  });

  test('a reply that is too short is refused, and the connection goes on', async () => {
    const client = await connect();
    daemon.onCall = ({ serial, procedure }) => daemon.reply(serial, procedure, Buffer.alloc(2));
    await expect(client.list()).rejects.toThrow('libvirtd sent too few bytes');
    await expect(client.list()).rejects.toThrow('libvirtd sent too few bytes');
    client.close();
  });

  test('a ping of keepalive is answered, other programs are not', async () => {
    const session = await RpcSession.connect(daemon.path, 1000);
    const ping = { procedure: 1, type: MESSAGE.EVENT, serial: 0, body: Buffer.alloc(0) };
    const answered = new Promise<Message>((resolve) => {
      daemon.onCall = resolve;
    });
    await session.call(PROCEDURE.open, new XdrWriter(), 1000);
    daemon.say(encodeMessage({ ...ping, program: 0x12345678 }));
    daemon.say(encodeMessage({ ...ping, program: KEEPALIVE_PROGRAM }));
    expect(await answered).toMatchObject({ program: KEEPALIVE_PROGRAM, procedure: 2, type: 2 });
    session.close();
  });

  test('takes leave', async () => {
    const client = await connect();
    const left = new Promise<Message>((resolve) => {
      daemon.onCall = resolve;
    });
    client.close();
    expect(await left).toMatchObject({ procedure: PROCEDURE.close });
    await expect(client.list()).rejects.toThrow('was left by this agent');
  });
});
