import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { PARTS } from './host.ts';

const here = import.meta.dirname;
const root = path.join(here, '../../..');
/** What the package brings to a host, and what is made when it is configured. */
const INSTALLED = [
  'usr/lib/godwit',
  'usr/bin/agent-send',
  'usr/bin/agent-recv',
  'usr/bin/agent-send-helper',
  'var/cache/godwit',
];
/** What the lab puts beside it. */
const OWN: Readonly<Record<string, string>> = {
  init: 'init',
  ask: 'bin/ask',
  door: 'bin/door',
  pids: 'bin/pids',
  'pipe.ts': 'bin/pipe.ts',
  'xl-capture': 'bin/xl-capture',
  'xl-captured': 'bin/xl-captured',
};
/** The kernel looks for the next archive at a multiple of this. */
const ALIGNMENT = 4;

/** Of dom0: the guest's memory disk, and what `xl create` reads. */
const GUEST = 'root/guest.cpio';
const CONFIG = 'root/g1.cfg';
const CONFIG_TEXT = `name = "g1"
type = "pv"
kernel = "/root/vmlinuz"
ramdisk = "/${GUEST}"
memory = 96
vcpus = 1
cpu_weight = 64
on_crash = "preserve"
`;

/**
 * Installs the project's own package into a copy of dom0, and makes what dom0
 * boots of it. @returns that file
 */
export function installInto(dir: string): string {
  const run = (program: string, args: readonly string[]) =>
    execFileSync(program, [...args], {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    });
  const script = path.join(root, 'lib/package/package.ts');
  const deb = run(process.execPath, [script, '--quick', '--output', dir]).trim();
  const tree = path.join(dir, 'dom0');
  run('cp', ['-a', `${PARTS}/dom0`, tree]);
  run('dpkg', ['-x', deb, tree]);
  fs.rmSync(deb);
  const node = '/usr/lib/godwit/node_modules/.bin/node';
  const compile = ['--expose-gc', '/usr/lib/godwit/lib/package/compile.ts'];
  const cache = 'NODE_COMPILE_CACHE=/var/cache/godwit/compiled';
  run('chroot', [tree, '/bin/busybox', 'env', cache, node, ...compile]);

  for (const [name, to] of Object.entries(OWN))
    fs.copyFileSync(path.join(here, 'dom0', name), path.join(tree, to));
  fs.writeFileSync(path.join(tree, GUEST), guestArchive(path.join(dir, 'guest')));
  fs.writeFileSync(path.join(tree, CONFIG), CONFIG_TEXT);

  const listed = INSTALLED.flatMap((name) =>
    run('find', [path.join(tree, name)])
      .trim()
      .split('\n'),
  );
  const parents = ['usr/lib', 'usr/bin', 'var/cache'].map((name) => path.join(tree, name));
  const names = [...parents, ...listed].map((file) => path.relative(tree, file));
  const archive = archiveOf(tree, [...names, ...Object.values(OWN), GUEST, CONFIG]);
  const base = fs.readFileSync(`${PARTS}/dom0.cpio.gz`);
  const padding = Buffer.alloc((ALIGNMENT - (base.length % ALIGNMENT)) % ALIGNMENT);
  const initrd = path.join(dir, 'initrd');
  fs.writeFileSync(initrd, Buffer.concat([base, padding, archive]));
  fs.rmSync(tree, { recursive: true });
  return initrd;
}

/** A small Linux that beats, as `guest/init` says. */
function guestArchive(dir: string): Buffer {
  for (const name of ['bin', 'dev', 'proc', 'tmp'])
    fs.mkdirSync(path.join(dir, name), { recursive: true });
  fs.copyFileSync(`${PARTS}/busybox`, path.join(dir, 'bin/busybox'));
  fs.copyFileSync(path.join(here, 'guest/init'), path.join(dir, 'init'));
  return archiveOf(dir, ['bin', 'dev', 'proc', 'tmp', 'bin/busybox', 'init']);
}

/** What a kernel unpacks. */
function archiveOf(dir: string, names: readonly string[]): Buffer {
  return execFileSync(`${PARTS}/busybox`, ['cpio', '-o', '-H', 'newc'], {
    cwd: dir,
    input: `${names.join('\n')}\n`,
    maxBuffer: 1 << 30,
    stdio: ['pipe', 'pipe', 'ignore'],
  });
}
