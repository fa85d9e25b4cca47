import fs from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';

/**
 * Stands between a VMM and whoever uses its control socket: commands pass, and those that `refuse`
 * names are answered with an error, as a hypervisor does that cannot right now. Others are late.
 */
export class Interposer {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #real: string;
  /** Refused so many times from here on. */
  readonly refuse = new Map<string, number>();
  refused = 0;
  /** Commands that are done at once and answered so much later, and those that are only then done, ms. */
  readonly answeredLate = new Map<string, number>();
  readonly doneLate = new Map<string, number>();

  private constructor(real: string) {
    this.#real = real;
    this.#server = createServer((client) => this.#serve(client));
  }

  /** The VMM's socket moves aside; this one takes its place. */
  static async before(socket: string): Promise<Interposer> {
    const real = `${socket}-behind`;
    fs.renameSync(socket, real);
    const interposer = new Interposer(real);
    await new Promise<void>((resolve) => interposer.#server.listen(socket, resolve));
    return interposer;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    fs.rmSync(this.#real, { force: true });
  }

  #serve(client: Socket): void {
    const vmm = connect(this.#real);
    for (const [socket, other] of [
      [client, vmm],
      [vmm, client],
    ] as const) {
      this.#sockets.add(socket);
      socket.on('error', () => {}); // 'close' follows
      socket.on('close', () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
    vmm.pipe(client, { end: false });
    const lines = createInterface({ input: client });
    lines.on('error', () => {}); // it tells again what its input has told
    lines.on('line', (line) => {
      const { execute, id } = JSON.parse(line) as { execute: string; id: number };
      const left = this.refuse.get(execute) ?? 0;
      if (left === 0) return this.#pass(client, vmm, execute, line);
      this.refuse.set(execute, left - 1);
      this.refused++;
      const error = { class: 'GenericError', desc: 'an image of the guest is locked' };
      return client.write(`${JSON.stringify({ error, id })}\n`);
    });
  }

  #pass(client: Socket, vmm: Socket, execute: string, line: string): void {
    const answered = this.answeredLate.get(execute);
    if (answered !== undefined) {
      vmm.unpipe(client);
      setTimeout(() => vmm.pipe(client, { end: false }), answered);
    }
    const done = this.doneLate.get(execute);
    if (done === undefined) vmm.write(`${line}\n`);
    else setTimeout(() => vmm.write(`${line}\n`), done);
  }
}
