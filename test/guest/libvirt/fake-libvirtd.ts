import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { uuidText } from '../../../lib/guest/libvirt/domain-process.ts';
import {
  encodeMessage,
  MESSAGE,
  type Message,
  MessageSplitter,
  REMOTE_PROGRAM,
} from '../../../lib/guest/libvirt/rpc/message.ts';
import { PROCEDURE, readDomain, writeDomain } from '../../../lib/guest/libvirt/rpc/procedures.ts';
import { XdrReader, XdrWriter } from '../../../lib/guest/libvirt/rpc/xdr.ts';

/** A libvirtd that does what a test wants; it lists one way to authenticate. */
export class FakeLibvirtd {
  readonly dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-rpc-'));
  readonly path = path.join(this.dir, 'sock');
  readonly heard: Message[] = [];
  authentication = 0;
  onCall: (message: Message) => void = () => {};
  #socket!: net.Socket;
  readonly #processes: ChildProcess[] = [];
  readonly #server = net.createServer((socket) => {
    this.#socket = socket;
    const splitter = new MessageSplitter();
    socket.on('error', () => {});
    socket.on('data', (bytes: Buffer) => {
      for (const message of splitter.push(bytes)) this.#hear(message);
    });
  });

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(this.path, resolve));
  }

  /** Has domains of 1 GiB, by name with virDomainState and its reason. */
  answerDomains(domains: Readonly<Record<string, readonly [state: number, reason: number]>>): void {
    const all = Object.entries(domains).map(([name, [state, reason]], id) => {
      return { ref: { name, uuid: Buffer.alloc(16, id + 1), id: id + 1 }, state, reason };
    });
    for (const { ref } of all) this.#runs(ref.name, uuidText(ref.uuid));
    this.onCall = ({ serial, procedure, body }) => {
      const writer = new XdrWriter();
      if (procedure === PROCEDURE.listAll) {
        writer.int(all.length);
        for (const { ref } of all) writeDomain(writer, ref);
        return this.reply(serial, procedure, writer.int(all.length).bytes());
      }
      if (procedure === PROCEDURE.close) return;
      const { name } = readDomain(new XdrReader(body));
      const { state, reason } = all.find(({ ref }) => ref.name === name)!;
      if (procedure === PROCEDURE.state) writer.int(state).int(reason);
      else
        writer
          .int(state)
          .hyper(1 << 20)
          .hyper(1 << 20)
          .int(1)
          .hyper(0);
      this.reply(serial, procedure, writer.bytes());
    };
  }

  reply(serial: number, procedure: number, body: Buffer, status = 0): void {
    const type = MESSAGE.REPLY;
    const bytes = encodeMessage({ program: REMOTE_PROGRAM, procedure, type, serial, body });
    bytes.writeUInt32BE(status, 24);
    this.#socket.write(bytes);
  }

  say(bytes: Buffer): void {
    this.#socket.write(bytes);
  }

  hangUp(): void {
    this.#socket.destroy();
  }

  /** A process that can be taken for the domain's QEMU; it ends with this one. */
  #runs(name: string, uuid: string): void {
    const args = ['-c', 'read _', 'qemu', '-uuid', uuid];
    const child = spawn('sh', args, { stdio: ['pipe', 'ignore', 'ignore'] });
    this.#processes.push(child);
    fs.mkdirSync(path.join(this.dir, 'qemu'), { recursive: true });
    fs.writeFileSync(path.join(this.dir, 'qemu', `${name}.pid`), `${child.pid}`);
  }

  end(): void {
    for (const child of this.#processes) child.kill('SIGKILL');
    this.#socket?.destroy();
    this.#server.close();
    fs.rmSync(this.dir, { recursive: true });
  }

  #hear(message: Message): void {
    this.heard.push(message);
    const { serial, procedure } = message;
    if (procedure === PROCEDURE.authList)
      this.reply(serial, procedure, new XdrWriter().int(1).int(this.authentication).bytes());
    else if (procedure === PROCEDURE.open) this.reply(serial, procedure, Buffer.alloc(0));
    else if (procedure === PROCEDURE.libVersion)
      this.reply(serial, procedure, new XdrWriter().hyper(11_003_000).bytes());
    else this.onCall(message);
  }
}
