import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Program } from '../cli/cli.ts';
import { bashCompletion } from './bash.ts';
import { fishCompletion } from './fish.ts';
import { manualOf } from './manual.ts';
import { zshCompletion } from './zsh.ts';

export interface Wanted {
  readonly programs: readonly Program[];
  readonly version: string;
  /** Directory that the package is put in. */
  readonly output: string;
  /** Compress fast rather than well. */
  readonly quick: boolean;
}

const root = path.join(import.meta.dirname, '../..');
/** Where the units and the launchers look for the project. */
const HOME = 'usr/lib/godwit';
const DOCUMENTS = 'usr/share/doc/godwit';
const UNITS = 'usr/lib/systemd/system';

/** What the maintainer scripts run. */
const RUN_BY_SCRIPTS = ['lib/package/compile.ts', 'lib/package/open-migrations.ts'];
/** Packages that agents run on; Node itself is a program of its own. */
const MODULES = ['long', 'protobufjs', 'xxhash-wasm'];
/** What is in them for browsers, compilers and readers. */
const NOT_RUN = /\/protobufjs\/dist$|\/xxhash-wasm\/umd$|\.(d\.ts|map|md)$/;

/** Makes the package with dpkg-deb(1) and returns its file. */
export function buildPackage(wanted: Wanted): string {
  const work = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-package-'));
  try {
    const tree = path.join(work, 'tree');
    const made = madeAt();
    copyProject(tree, wanted.version);
    copyNode(tree);
    copyDocuments(tree);
    writeManual(tree, wanted, made);
    writeCompletion(tree, wanted.programs);
    // Whatever the umask was: nothing in it is secret, and nobody but root may change it.
    execFileSync('chmod', ['-R', 'u=rwX,go=rX', tree]);
    writeControl(tree, wanted.version, dependencies(work));
    return pack(tree, wanted, made);
  } finally {
    fs.rmSync(work, { recursive: true });
  }
}

/** Agents, library and packages; units and what belongs into /etc where the system looks for it. */
function copyProject(tree: string, version: string): void {
  const home = path.join(tree, HOME);
  fs.cpSync(path.join(root, 'lib/package/root'), tree, { recursive: true });
  const own = path.join(root, 'lib/package');
  for (const name of ['agent-send', 'agent-recv', 'lib', 'proto'])
    fs.cpSync(path.join(root, name), path.join(home, name), {
      recursive: true,
      filter: (file) => file !== own,
    });
  for (const name of RUN_BY_SCRIPTS) fs.cpSync(path.join(root, name), path.join(home, name));
  const { name, license, type } = JSON.parse(read('package.json'));
  write(path.join(home, 'package.json'), `${JSON.stringify({ name, version, license, type })}\n`);

  fs.mkdirSync(path.join(tree, UNITS), { recursive: true });
  fs.mkdirSync(path.join(tree, 'usr/bin'));
  for (const agent of ['agent-send', 'agent-recv']) {
    for (const unit of fs.readdirSync(path.join(home, agent)))
      if (/\.(service|socket)$/.test(unit))
        fs.renameSync(path.join(home, agent, unit), path.join(tree, UNITS, unit));
    fs.symlinkSync(`../lib/godwit/${agent}/${agent}`, path.join(tree, 'usr/bin', agent));
  }
  fs.symlinkSync(
    '../lib/godwit/agent-send/agent-send-helper',
    path.join(tree, 'usr/bin/agent-send-helper'),
  );
  for (const module of MODULES)
    fs.cpSync(path.join(root, 'node_modules', module), path.join(home, 'node_modules', module), {
      recursive: true,
      filter: (file) => !NOT_RUN.test(file),
    });
  // Launchers have Node keep here what it compiles; /usr may be read-only.
  fs.symlinkSync('/var/cache/godwit', path.join(home, 'node_modules/.cache'));
  for (const empty of ['var/cache/godwit', 'etc/godwit/guests.d'])
    fs.mkdirSync(path.join(tree, empty), { recursive: true });
}

/** The one program of Node's package, without what only a debugger reads. */
function copyNode(tree: string): void {
  const bin = path.join(tree, HOME, 'node_modules/.bin');
  fs.mkdirSync(bin);
  execFileSync('strip', ['--strip-unneeded', '-o', path.join(bin, 'node'), nodeFile()]);
}

function copyDocuments(tree: string): void {
  const there = path.join(tree, DOCUMENTS);
  for (const name of ['README.md', 'ARCHITECTURE.md', 'docs', 'proto/WIRE.md'])
    fs.cpSync(path.join(root, name), path.join(there, name), { recursive: true });
  write(path.join(there, 'changelog.gz'), gzipSync(read('CHANGELOG.md'), { level: 9 }));
  const licenses = ['LICENSE', ...MODULES.map(licenseOf), licenseOf('node/node_modules/node-*')];
  const texts = licenses.map((file) => `${'='.repeat(78)}\n${file}\n\n${read(file)}\n`);
  write(
    path.join(there, 'copyright'),
    `Godwit, and below it what runs with it.\n\n${texts.join('')}`,
  );
}

function licenseOf(module: string): string {
  const [file] = fs.globSync(`node_modules/${module}/LICENSE*`, { cwd: root });
  if (file === undefined) throw new Error(`no licence of ${module} is found`);
  return file;
}

function writeManual(tree: string, { programs, version }: Wanted, made: Date): void {
  const date = made.toISOString().slice(0, 10);
  for (const [file, text] of manualOf(programs, { version, date })) {
    const to = path.join(tree, `usr/share/man/man${file.at(-1)}`, `${file}.gz`);
    write(to, gzipSync(text, { level: 9 }));
  }
}

function writeCompletion(tree: string, programs: readonly Program[]): void {
  const share = path.join(tree, 'usr/share');
  for (const program of programs) {
    const { name } = program;
    write(path.join(share, 'bash-completion/completions', name), bashCompletion(program));
    write(path.join(share, 'zsh/vendor-completions', `_${name}`), zshCompletion(program));
    write(path.join(share, 'fish/vendor_completions.d', `${name}.fish`), fishCompletion(program));
  }
}

function writeControl(tree: string, version: string, depends: string): void {
  const { description } = JSON.parse(read('package.json'));
  const control = path.join(tree, 'DEBIAN');
  const [kib] = execFileSync('du', ['-sk', tree], { encoding: 'utf8' }).split('\t');
  fs.cpSync(path.join(root, 'lib/package/debian'), control, { recursive: true });
  for (const script of fs.readdirSync(control)) fs.chmodSync(path.join(control, script), 0o755);
  const kept = files(path.join(tree, 'etc')).map((file) => `/${path.relative(tree, file)}\n`);
  write(path.join(control, 'conffiles'), kept.join(''));
  write(
    path.join(control, 'control'),
    `Package: godwit
Version: ${version}
Architecture: ${architecture()}
Maintainer: Godwit <godwit@localhost>
Section: admin
Priority: optional
Installed-Size: ${kib}
Depends: ${depends}, iproute2
Recommends: openssl, systemd
Description: ${description[0].toLowerCase()}${description.slice(1)}
 agent-send gives running guests away, and agent-recv takes them: domains of
 libvirt, guests of QEMU without libvirt, and simulated ones. A guest that
 cannot be given away within its suspension limit runs on where it was.
`,
  );
}

/** What Node is linked against; the rest is text. */
function dependencies(work: string): string {
  const debian = path.join(work, 'debian');
  write(path.join(debian, 'control'), 'Source: godwit\n\nPackage: godwit\nArchitecture: any\n');
  const args = ['-O', '-e', nodeFile()];
  const found = execFileSync('dpkg-shlibdeps', args, {
    cwd: work,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'], // it warns of what is Node's business
  });
  const [, depends] = /^shlibs:Depends=(.+)$/m.exec(found) ?? [];
  if (depends === undefined) throw new Error(`dpkg-shlibdeps says "${found}"`);
  return depends;
}

function pack(tree: string, { version, output, quick }: Wanted, made: Date): string {
  const file = path.resolve(output, `godwit_${version}_${architecture()}.deb`);
  const compression = quick ? ['-Zzstd', '-z1'] : ['-Zxz', '-z9'];
  fs.mkdirSync(path.dirname(file), { recursive: true });
  execFileSync('dpkg-deb', ['--root-owner-group', ...compression, '--build', tree, file], {
    env: { ...process.env, SOURCE_DATE_EPOCH: String(made.getTime() / 1000) },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return file;
}

function architecture(): string {
  return execFileSync('dpkg', ['--print-architecture'], { encoding: 'utf8' }).trim();
}

/** The same sources make the same package: its files are as old as the last change. */
function madeAt(): Date {
  const { SOURCE_DATE_EPOCH } = process.env;
  if (SOURCE_DATE_EPOCH !== undefined) return new Date(Number(SOURCE_DATE_EPOCH) * 1000);
  try {
    const seconds = execFileSync('git', ['log', '-1', '--format=%ct'], {
      cwd: root,
      encoding: 'utf8',
    });
    return new Date(Number(seconds) * 1000);
  } catch {
    return new Date(Math.floor(Date.now() / 1000) * 1000); // sources without their history
  }
}

function nodeFile(): string {
  return fs.realpathSync(path.join(root, 'node_modules/.bin/node'));
}

function files(dir: string): string[] {
  return fs
    .readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort();
}

function read(name: string): string {
  return fs.readFileSync(path.join(root, name), 'utf8');
}

function write(file: string, content: string | Uint8Array): void {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, content);
}
