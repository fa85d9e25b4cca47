import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  definitionDuty,
  keepDefinition,
  renamed,
  requireSame,
} from '../../../lib/guest/libvirt/definition.ts';
import type { Message } from '../../../lib/guest/libvirt/rpc/message.ts';
import { ERROR, PROCEDURE, writeDomain } from '../../../lib/guest/libvirt/rpc/procedures.ts';
import { XdrReader, XdrWriter } from '../../../lib/guest/libvirt/rpc/xdr.ts';
import { FakeLibvirtd } from './fake-libvirtd.ts';

const UUID = '11111111-2222-3333-4444-555555555555';
const domain = { name: 'web2', uuid: Buffer.from(UUID.replaceAll('-', ''), 'hex'), id: -1 };
const XML = `<domain type='kvm'><name>web1</name><uuid>${UUID}</uuid></domain>`;
const SHUT_OFF = 5;

let libvirtd: FakeLibvirtd;
let file: string;
beforeEach(async () => {
  libvirtd = new FakeLibvirtd();
  await libvirtd.listen();
  file = path.join(libvirtd.dir, 'definitions', `${UUID}.xml`);
});
afterEach(() => libvirtd.end());

const place = (more: object) => {
  return { kind: 'libvirt', guest: 'web2', socket: libvirtd.path, uuid: UUID, ram: [], ...more };
};

/** One that knows the domain, or does not; it refuses whatever it is told to refuse. */
function answers(state: number | undefined, refuses: () => number | undefined = () => undefined) {
  libvirtd.onCall = ({ serial, procedure }) => {
    const refuse = (code: number) => {
      const body = new XdrWriter().int(code).int(0).optionalString('no').bytes();
      libvirtd.reply(serial, procedure, body, 1);
    };
    if (procedure === PROCEDURE.close) return;
    if (procedure === refuses()) return refuse(1);
    if (state === undefined && procedure === PROCEDURE.lookupByUuid) return refuse(ERROR.noDomain);
    const writer = new XdrWriter();
    if (procedure === PROCEDURE.lookupByUuid) writeDomain(writer, domain);
    if (procedure === PROCEDURE.state) writer.int(state!).int(0);
    if (procedure === PROCEDURE.isPersistent) writer.int(1);
    libvirtd.reply(serial, procedure, writer.bytes());
  };
}

const heard = (wanted: number): Message[] =>
  libvirtd.heard.filter(({ procedure }) => procedure === wanted);

test('a definition is made of what was kept for it, and a refusal leaves it to be tried again', async () => {
  await keepDefinition(file, XML);
  expect(fs.statSync(file).mode & 0o777).toBe(0o600);
  const duty = definitionDuty(place({ definition: file }))!;
  answers(1, () => PROCEDURE.defineXml);
  await expect(duty.settle('here')).rejects.toMatchObject({ code: 'hypervisor-failed' });
  answers(1);
  for (let times = 0; times < 2; times++) await duty.settle('here');
  const [first] = heard(PROCEDURE.defineXml);
  expect(new XdrReader(first!.body).string()).toBe(XML);
  expect(heard(PROCEDURE.defineXml)).toHaveLength(3);
});

test('one that was kept and is lost is not taken for one that is made', async () => {
  answers(1);
  const duty = definitionDuty(place({ definition: file }))!;
  await expect(duty.settle('here')).rejects.toThrow('ENOENT');
});

test('what was kept for a guest that has not come goes', async () => {
  await keepDefinition(file, XML);
  const duty = definitionDuty(place({ definition: file }))!;
  for (let times = 0; times < 2; times++) await duty.settle('gone');
  expect(fs.existsSync(file)).toBe(false);
  expect(libvirtd.heard).toEqual([]);
});

test('a definition goes, but NVRAM and TPM stay; of a domain that is gone or runs again nothing goes', async () => {
  const duty = definitionDuty(place({ undefine: true }))!;
  answers(SHUT_OFF);
  await duty.settle('gone');
  const body = heard(PROCEDURE.undefineFlags)[0]!.body;
  expect(body.subarray(-4).readUInt32BE()).toBe(2 | 8 | 16 | 64);
  answers(undefined); // there is none any more
  await duty.settle('gone');
  answers(1); // somebody has started it again
  await duty.settle('gone');
  expect(heard(PROCEDURE.undefineFlags)).toHaveLength(1);
  expect(definitionDuty(place({}))).toBeUndefined();
});

test('a definition is of the domain that comes, and has the name that it has here', () => {
  const { uuid } = domain;
  const named = renamed(requireSame(XML, uuid), 'a&b');
  expect(named).toBe(XML.replace('web1', 'a&amp;b'));
  for (const other of [XML.replace('1111', '2222'), XML.replace(/<uuid.*uuid>/, ''), '<x/>'])
    expect(() => requireSame(other, uuid)).toThrow('that of another one');
});
