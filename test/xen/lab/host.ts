import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';

/** Where `.ci/xen` puts what hosts are made of. */
export const PARTS = '/opt/godwit-xen';
const QEMU = '/opt/godwit-qemu/10.0/qemu-system-x86_64';

/** Of one host, MiB: Xen takes what dom0 and a guest of 96 MiB leave. */
const HOST_MIB = 1408;
const DOM0_MIB = 1024;

/** Not every processor that QEMU emulates will do: with `max` restored guests are corrupt, with `EPYC` Xen panics. */
const CPU = 'Nehalem';
const XEN = `console=com1 com1=115200,8n1 dom0_mem=${DOM0_MIB}M,max:${DOM0_MIB}M xpti=no spec-ctrl=no pv-l1tf=no loglvl=info guest_loglvl=info`;

/** Of a command whose end was not heard; one that has said nothing was most likely never begun: the door was full. */
const NOT_HEARD = 98;
const ATTEMPTS = 5;

export interface Said {
  readonly code: number;
  readonly text: string;
}

/** What runs in a dom0, from the outside: everything that it has said, and its end. */
export interface Running {
  readonly said: string;
  readonly ended: Promise<Said>;
  /** Stops listening; what runs hears of it when it writes. */
  leave(): void;
}

/** A Xen host in a QEMU of its own, without a hypervisor's help; its shell is a port of this machine. */
export class XenHost {
  readonly name: 'hosta' | 'hostb';
  readonly #process: ChildProcess;
  readonly #dir: string;
  readonly #port: number;

  private constructor(name: XenHost['name'], child: ChildProcess, dir: string, port: number) {
    this.name = name;
    this.#process = child;
    this.#dir = dir;
    this.#port = port;
  }

  /** It boots from here on. @param dir for its files, shared with its peer, whose wire is there too */
  static async start(name: XenHost['name'], dir: string, initrd: string): Promise<XenHost> {
    const number = name === 'hosta' ? 1 : 2;
    const port = await freePort();
    const [own, other] = number === 1 ? ['1', '2'] : ['2', '1'];
    const wire = `dgram,id=w,local.type=unix,local.path=${dir}/wire${own},remote.type=unix,remote.path=${dir}/wire${other}`;
    const dom0 = `console=hvc0 loglevel=4 mitigations=off hostip=10.9.0.${number} host=${name}`;
    const args = [
      ...['-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none'],
      ...['-machine', 'pc,accel=tcg,usb=off', '-cpu', CPU, '-smp', '1', '-m', String(HOST_MIB)],
      ...[
        '-kernel',
        `${PARTS}/xen`,
        '-append',
        XEN,
        '-initrd',
        `${PARTS}/vmlinuz ${dom0},${initrd}`,
      ],
      ...['-chardev', `file,id=console,path=${dir}/${name}.log`, '-serial', 'chardev:console'],
      ...['-netdev', `user,id=m,restrict=on,hostfwd=tcp:127.0.0.1:${port}-:2222`],
      ...['-device', `e1000,netdev=m,mac=52:54:00:00:00:0${number}`],
      ...['-netdev', wire, '-device', `e1000,netdev=w,mac=52:54:00:00:01:0${number}`],
    ];
    const output = fs.openSync(path.join(dir, `${name}.qemu`), 'w');
    const child = spawn('nice', ['-n', '5', QEMU, ...args], {
      detached: true, // a session of its own gets its share of the processors
      stdio: ['ignore', output, output],
    });
    fs.closeSync(output);
    return new XenHost(name, child, dir, port);
  }

  /** Runs a shell command in dom0 to its end. */
  async run(command: string): Promise<Said> {
    for (let attempt = 1; ; attempt++) {
      const said = await this.begin(command).ended;
      if (said.code !== NOT_HEARD || said.text !== '' || attempt === ATTEMPTS) return said;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  /** The same of one that has to succeed; what it has said. */
  async must(command: string): Promise<string> {
    const { code, text } = await this.run(command);
    assert.equal(code, 0, `${this.name}: ${command}\n${text}`);
    return text;
  }

  /** Waits in dom0, where a look is cheap, until that succeeds. @param what is waited for, in words */
  async until(condition: string, what: string): Promise<void> {
    const looks = Math.ceil(BOUND_MS / LOOK_MS);
    const look = `usleep ${LOOK_MS * 1000}`;
    const { code, text } = await this.run(
      `for look in $(seq ${looks}); do { ${condition}; } >/dev/null 2>&1 && exit 0; ${look}; done; exit 1`,
    );
    assert.equal(code, 0, `waited in vain on ${this.name}: ${what}\n${text}`);
  }

  /** Begins a shell command in dom0. @param hear gets what it says as it comes */
  begin(command: string, hear: (text: string) => void = () => {}): Running {
    const socket = net.connect(this.#port, '127.0.0.1');
    const { promise, resolve } = Promise.withResolvers<Said>();
    let said = '';
    socket.setEncoding('utf8');
    socket.on('connect', () => socket.write(`${Buffer.from(command).toString('base64')}\n`));
    socket.on('data', (text: string) => {
      said += text;
      hear(text);
    });
    socket.on('error', () => {}); // close follows
    socket.on('close', () => {
      const [rest, code = NOT_HEARD] = said.split(/^rc (\d+)\n$/m);
      resolve({ code: Number(code), text: rest! });
    });
    return {
      get said() {
        return said;
      },
      ended: promise,
      leave: () => socket.destroy(),
    };
  }

  /** What its hypervisor and kernel have said. */
  get console(): string {
    return fs.readFileSync(path.join(this.#dir, `${this.name}.log`), 'latin1');
  }

  end(): void {
    this.#process.kill('SIGKILL');
  }

  /** Resolves when its shell answers. */
  async booted(): Promise<void> {
    const log = path.join(this.#dir, `${this.name}.log`);
    const ready = () => fs.existsSync(log) && this.console.includes('DOM0 READY');
    const why = () => fs.readFileSync(path.join(this.#dir, `${this.name}.qemu`), 'latin1');
    const alive = () => assert.equal(this.#process.exitCode, null, why());
    await until(() => {
      alive();
      return ready();
    }, `${this.name} boots`);
    const answers = async () => (await this.run('true')).code === 0;
    await until(answers, `the door of ${this.name} opens`);
  }
}

/** Longer than anything here takes on a machine that has something else to do, ms. */
const BOUND_MS = 400_000;
/** A look is half a dozen processes of an emulated host, ms. */
const LOOK_MS = 1000;

/** Waits for a condition, with a bound that only something broken reaches. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  { boundMs = BOUND_MS, lookMs = LOOK_MS } = {},
): Promise<void> {
  const end = performance.now() + boundMs;
  while (!(await condition())) {
    assert(performance.now() < end, `waited ${boundMs / 1000} s in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, lookMs));
  }
}

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
