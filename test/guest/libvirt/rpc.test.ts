import { describe, expect, test } from 'vitest';
import {
  encodeMessage,
  MAX_MESSAGE_BYTES,
  MESSAGE,
  type Message,
  MessageSplitter,
  REMOTE_PROGRAM,
} from '../../../lib/guest/libvirt/rpc/message.ts';
import {
  ofDomain,
  readDomain,
  readDomains,
  readError,
  readEvent,
  readParameters,
  writeParameters,
} from '../../../lib/guest/libvirt/rpc/procedures.ts';
import { XdrReader, XdrWriter } from '../../../lib/guest/libvirt/rpc/xdr.ts';

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');
const UUID = hex('11111111 22223333 44445555 55555555');
const WEB1 = { name: 'web1', uuid: UUID, id: 7 };
/** As libvirt 11.3 has sent it: the domain web1 was suspended for a migration. */
const SUSPENDED = hex(
  `00000000 00000004 77656231 11111111 22223333 44445555 55555555 00000007 00000003 00000001`,
);

describe('XDR', () => {
  test('is what RFC 4506 says', () => {
    const writer = new XdrWriter()
      .int(-1)
      .int(0x20008086)
      .hyper(-2)
      .hyper(2n ** 63n);
    writer.string('web1!').optionalString(undefined).optionalString('').opaque(hex('aabbcc'));
    expect(writer.bytes().toString('hex')).toBe(
      [
        'ffffffff 20008086 fffffffffffffffe 8000000000000000',
        '00000005 7765623121000000 00000000 00000001 00000000 00000003 aabbcc00',
      ]
        .join('')
        .replaceAll(' ', ''),
    );
  });

  test('is read as it was written', () => {
    const writer = new XdrWriter().int(-1).hyper(-2).string('grün').optionalString('x');
    const reader = new XdrReader(writer.int(1).fixed(UUID).bytes());
    expect(reader.int()).toBe(-1);
    expect(reader.hyper()).toBe(-2n);
    expect(reader.string()).toBe('grün');
    expect(reader.optionalString()).toBe('x');
    expect(reader.boolean()).toBe(true);
    expect(reader.fixed(16)).toEqual(UUID);
    reader.end();
  });

  test.each([
    ['a length of 4 GiB', 'ffffffff', (r: XdrReader) => r.opaque()],
    ['a length of 4 MiB and a byte', '00400001', (r: XdrReader) => r.string()],
    ['a string that is cut', '00000005 77656231', (r: XdrReader) => r.string()],
    ['a string without what fills its word', '00000005 7765623121', (r: XdrReader) => r.string()],
    ['a boolean of 2', '00000002', (r: XdrReader) => r.boolean()],
    ['a list of 16,385 domains', '00004001', readDomains],
    ['1,025 parameters', '00000401', readParameters],
    ['a parameter of type 8', '00000001 00000001 61000000 00000008', readParameters],
    ['bytes too many', '00000000', (r: XdrReader) => r.end()],
  ])('refuses %s', (_what, bytes, read) => {
    expect(() => read(new XdrReader(hex(bytes)))).toThrow(/^libvirtd sent /);
  });

  test('a domain, parameters, an error and an event', () => {
    expect(ofDomain(WEB1).bytes().toString('hex')).toBe(
      `0000000477656231${UUID.toString('hex')}00000007`,
    );
    expect(readDomain(new XdrReader(ofDomain(WEB1).bytes()))).toEqual(WEB1);
    const given = { migrate_uri: 'unix:///x', bandwidth: 5 };
    const written = writeParameters(new XdrWriter(), given).bytes();
    expect(readParameters(new XdrReader(written))).toEqual(given);
    const refused = new XdrWriter().int(42).int(10).optionalString('no domain').bytes();
    expect(readError(new XdrReader(refused))).toEqual({ code: 42, words: 'no domain' });
    const event = { type: 'lifecycle', domain: WEB1, event: 3, detail: 1 };
    expect(readEvent(318, new XdrReader(SUSPENDED))).toEqual(event);
    expect(readEvent(317, new XdrReader(SUSPENDED))).toBeUndefined();
  });

  test('every cut of an event is refused, and every changed byte is read or refused by name', () => {
    for (let at = 0; at < SUSPENDED.length; at++)
      expect(() => readEvent(318, new XdrReader(SUSPENDED.subarray(0, at)))).toThrow(
        /too few bytes/,
      );
    for (let bit = 0; bit < SUSPENDED.length * 8; bit++) {
      const changed = Buffer.from(SUSPENDED);
      changed[bit >> 3]! ^= 1 << (bit & 7);
      orRefused(() => readEvent(318, new XdrReader(changed)));
    }
  });
});

describe('messages', () => {
  const CALL = hex('00000020 20008086 00000001 0000001c 00000000 00000003 00000000 0000002a');
  const RESUME = {
    program: REMOTE_PROGRAM,
    procedure: 28,
    type: MESSAGE.CALL,
    serial: 3,
    body: hex('0000002a'),
  };

  test('are what libvirt says', () => {
    expect(encodeMessage(RESUME)).toEqual(CALL);
    expect(new MessageSplitter().push(CALL)).toEqual([{ ...RESUME, failed: false }]);
  });

  test('come out alike wherever they are cut', () => {
    const stream = Buffer.concat([CALL, encodeMessage({ ...RESUME, body: Buffer.alloc(0) }), CALL]);
    const whole = new MessageSplitter().push(stream);
    expect(whole).toHaveLength(3);
    for (let at = 0; at <= stream.length; at++) {
      const splitter = new MessageSplitter();
      const first = splitter.push(stream.subarray(0, at));
      expect([...first, ...splitter.push(stream.subarray(at))]).toEqual(whole);
    }
    const splitter = new MessageSplitter();
    const bytewise: Message[] = [];
    for (const byte of stream) bytewise.push(...splitter.push(Buffer.from([byte])));
    expect(bytewise).toEqual(whole);
  });

  test.each([0, 27, MAX_MESSAGE_BYTES + 1, 0xffffffff])(
    'one of %i bytes is refused by its length alone',
    (length) => {
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32BE(length);
      expect(() => new MessageSplitter().push(bytes)).toThrow(
        `libvirtd sent a message of ${length} bytes`,
      );
    },
  );
});

function orRefused(read: () => unknown): void {
  try {
    read();
  } catch (error) {
    expect((error as Error).message).toMatch(/^libvirtd sent /);
  }
}
