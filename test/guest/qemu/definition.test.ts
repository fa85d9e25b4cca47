import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { GodwitError } from '../../../lib/errors.ts';
import { listDefinitions, loadDefinition } from '../../../lib/guest/qemu/definition.ts';

let dir: string;
let ramDir: string;
let elsewhere: string;

beforeEach(() => {
  const root = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-definitions-')));
  [dir, ramDir, elsewhere] = ['guests.d', 'ram', 'elsewhere'].map((name) =>
    path.join(root, name),
  ) as [string, string, string];
  for (const made of [dir, ramDir, elsewhere]) fs.mkdirSync(made, { mode: 0o755 });
});

afterEach(() => fs.rmSync(path.dirname(dir), { recursive: true }));

const QMP = '/run/vm1.qmp';
const MINIMAL = { hypervisor: 'qemu', qmp: QMP };

function write(content: unknown, name = 'vm1'): string {
  const file = path.join(dir, `${name}.json`);
  fs.writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content), {
    mode: 0o644,
  });
  return file;
}

const load = (name = 'vm1') => loadDefinition(dir, name, [ramDir]);

function refusal(read: () => unknown, code = 'definition-invalid'): string {
  try {
    read();
  } catch (error) {
    expect(error).toBeInstanceOf(GodwitError);
    expect(error).toMatchObject({ code });
    expect((error as Error).message).not.toContain('\n');
    return (error as Error).message;
  }
  throw new Error('it was taken');
}

/** With a command that QEMU would take, and some of it changed. */
function full(changes: object = {}) {
  const ramFile = path.join(ramDir, 'vm1.ram');
  return {
    ...MINIMAL,
    command: [
      '/usr/bin/qemu-system-x86_64',
      ...['-machine', 'q35,memory-backend=ram', '-append', ''],
      ...['-object', `memory-backend-file,id=ram,size=1G,mem-path=${ramFile},share=on`],
      ...['-qmp', `unix:${QMP},server=on,wait=off`],
    ],
    ram: [{ block: 'ram', file: ramFile }],
    hooks: {
      preSuspend: { command: ['/bin/true', '$HOME'] },
      postRelease: { command: ['/bin/false'], timeout: '1.5s' },
    },
    limits: { memory: '8GiB' },
    ...changes,
  };
}

describe('a definition', () => {
  test('needs little on a host that only sends', () => {
    const file = write(MINIMAL);
    expect(load()).toEqual({
      ...{ name: 'vm1', file, hypervisor: 'qemu', qmp: QMP },
      ...{ ram: [], hooks: {}, limits: {} },
    });
    write({ ...MINIMAL, ram: [], hooks: {}, limits: {} });
    expect(load()).toMatchObject({ ram: [], hooks: {}, limits: {} });
  });

  test('says all of it', () => {
    const content = full();
    const file = write(content);
    expect(load()).toEqual({
      ...{ name: 'vm1', file, hypervisor: 'qemu', qmp: QMP },
      command: content.command,
      ram: content.ram,
      hooks: {
        preSuspend: { command: ['/bin/true', '$HOME'], limitMs: 10_000 },
        postRelease: { command: ['/bin/false'], limitMs: 1_500 },
      },
      limits: { memory: 8 * 2 ** 30 },
    });
  });

  test.each([
    ['-qmp', `unix:${QMP},server=on,wait=off`],
    ['-qmp', `unix:${QMP}`],
    ['-chardev', `socket,id=q,server=on,path=${QMP}`, '-mon', 'chardev=q,mode=control'],
    ['-object', `{"qom-type": "x", "path": "${QMP}"}`],
  ])('may open its QMP socket by %s %s', (...options) => {
    write({ ...MINIMAL, command: ['/bin/qemu', ...options] });
    expect(load().command).toEqual(['/bin/qemu', ...options]);
  });

  test('has commas doubled where QEMU wants them so', () => {
    const qmp = '/run/vm,1.qmp';
    write({ ...MINIMAL, qmp, command: ['/bin/qemu', '-qmp', 'unix:/run/vm,,1.qmp,server=on'] });
    expect(load().qmp).toBe(qmp);
  });
});

describe('refused, naming the file and the key:', () => {
  test.each<[unknown, string]>([
    ['{"hypervisor": "qemu",}', 'is not JSON: '],
    ['{"hypervisor":\n"qemu"\n"qmp"}', 'is not JSON: '],
    ['', 'is not JSON: '],
    ['[]', 'is not a JSON object'],
    ['null', 'is not a JSON object'],
    [' '.repeat(70_000), 'a definition is a file of at most 65536 bytes'],
    [{}, '"hypervisor" is missing'],
    [{ hypervisor: 'qemu' }, '"qmp" is missing'],
    [{ ...MINIMAL, hypervisor: 'xen' }, '"hypervisor" must be "qemu", not "xen"'],
    [{ ...MINIMAL, hypervisor: ['qemu'] }, '"hypervisor" must be a string'],
    [{ ...MINIMAL, QMP: '/x' }, 'there is no key "QMP"; there are hypervisor, qmp, command, ram'],
    [`{"hypervisor": "qemu", "qmp": "${QMP}", "__proto__": {}}`, 'there is no key "__proto__"'],
    [{ ...MINIMAL, constructor: 1 }, 'there is no key "constructor"'],
    [{ ...MINIMAL, qmp: 4444 }, '"qmp" must be a string'],
    [{ ...MINIMAL, qmp: '' }, '"qmp" must be a string'],
    [{ ...MINIMAL, qmp: null }, '"qmp" must be a string'],
    [{ ...MINIMAL, qmp: 'vm1.qmp' }, '"qmp" must be an absolute path, not "vm1.qmp"'],
    [{ ...MINIMAL, qmp: `/${'é'.repeat(54)}` }, '"qmp" is longer than the 107 bytes'],
    [{ ...MINIMAL, ram: {} }, '"ram" must be an array'],
    [{ ...MINIMAL, ram: ['/dev/shm/x'] }, '"ram[0]" must be an object'],
    [{ ...MINIMAL, ram: [{ block: 'ram' }] }, '"ram[0].file" is missing'],
    [{ ...MINIMAL, ram: [{ block: 1, file: '/x' }] }, '"ram[0].block" must be a string'],
    [{ ...MINIMAL, ram: [{ block: 'a', file: 'x.ram' }] }, '"ram[0].file" must be an absolute'],
    [{ ...MINIMAL, ram: [{ block: 'a', file: '/x', size: 1 }] }, 'no key "ram[0].size"; there are'],
    [{ ...MINIMAL, hooks: [] }, '"hooks" must be an object'],
    [
      { ...MINIMAL, hooks: { preResume: {} } },
      'there is no key "hooks.preResume"; there are preSus',
    ],
    [{ ...MINIMAL, hooks: { preSuspend: {} } }, '"hooks.preSuspend.command" is missing'],
    [{ ...MINIMAL, hooks: { preSuspend: '/bin/true' } }, '"hooks.preSuspend" must be an object'],
    [hook({ command: '/bin/true' }), '"hooks.postResume.command" must be an array'],
    [hook({ command: [] }), '"hooks.postResume.command" must be an array of strings'],
    [hook({ command: ['true'] }), 'must begin with the absolute path of a program, not "true"'],
    [hook({ command: ['/bin/true', 1] }), 'must be an array of strings'],
    [hook({ command: ['/bin/true', 'a\0b'] }), 'must be an array of strings'],
    [hook({ timeout: 5 }), '"hooks.postResume.timeout" must be a string'],
    [hook({ timeout: '5' }), '"hooks.postResume.timeout" cannot be "5": a bare number is ambig'],
    [hook({ timeout: '2h' }), '"hooks.postResume.timeout" cannot be "2h": allowed is 1 ms to '],
    [hook({ timeout: '0s' }), '"hooks.postResume.timeout" cannot be "0s": allowed is 1 ms to '],
    [{ ...MINIMAL, limits: { memory: 8 } }, '"limits.memory" must be a string'],
    [{ ...MINIMAL, limits: { memory: '8' } }, '"limits.memory" cannot be "8": a bare number'],
    [{ ...MINIMAL, limits: { memory: '0B' } }, '"limits.memory" cannot be "0B"'],
    [{ ...MINIMAL, limits: { vcpus: '8' } }, 'there is no key "limits.vcpus"; there are memory'],
    [command(), '"command" does not open the QMP socket /run/vm1.qmp: add "-qmp unix:/run/vm1.qmp'],
    [command(`-qmp`, `unix:${QMP}2,server=on`), '"command" does not open the QMP socket'],
    [command('-qmp', QMP, '-S'), '"command" may not contain "-S": the agent adds it'],
    [command('-qmp', QMP, '--S'), '"command" may not contain "--S": the agent adds it'],
    [command('-incoming', 'defer', '-qmp', QMP), 'may not contain "-incoming": the agent adds'],
    [command('--incoming', 'tcp::1'), '"command" may not contain "--incoming"'],
    [command('-daemonize', '-qmp', QMP), 'may not contain "-daemonize": the agent starts QEMU in'],
    [command('-qmp', 'x\0y'), '"command" must be an array of strings'],
    [{ ...MINIMAL, command: ['qemu', QMP] }, '"command" must begin with the absolute path'],
    [{ ...MINIMAL, command: `/bin/qemu -qmp ${QMP}` }, '"command" must be an array'],
  ])('case %#: %j', (content, why) => {
    const file = write(content);
    const message = refusal(load);
    expect(message).toContain(why);
    expect(message.startsWith(`${file}: `)).toBe(true);
  });

  function hook(changes: object) {
    return { ...MINIMAL, hooks: { postResume: { command: ['/bin/true'], ...changes } } };
  }

  function command(...options: string[]) {
    return { ...MINIMAL, command: ['/bin/qemu', ...options] };
  }

  test('options are not looked up in objects', () => {
    write(command('-constructor', '-toString', '-qmp', QMP));
    expect(load().command).toHaveLength(5);
  });
});

describe('RAM files', () => {
  const ram = (...files: string[]) => {
    write({ ...MINIMAL, ram: files.map((file, at) => ({ block: `m${at}`, file })) });
    return load().ram.map(({ file }) => file);
  };

  test('lie in the directories that are configured, or below, whether they exist or not', () => {
    const below = path.join(ramDir, 'a', 'b');
    fs.mkdirSync(below, { recursive: true });
    fs.writeFileSync(path.join(below, 'x'), '');
    const files = [path.join(below, 'x'), path.join(ramDir, 'y')];
    expect(ram(...files)).toEqual(files);
  });

  test('are told by their real directories', () => {
    fs.symlinkSync(ramDir, path.join(elsewhere, 'link'));
    expect(ram(path.join(elsewhere, 'link', 'x'))).toEqual([path.join(ramDir, 'x')]);
    const linked = loadDefinition(dir, 'vm1', [path.join(elsewhere, 'link')]);
    expect(linked.ram[0]?.file).toBe(path.join(ramDir, 'x'));
  });

  test('lie nowhere else', () => {
    const within = `must lie within ${ramDir}, not at `;
    fs.symlinkSync(elsewhere, path.join(ramDir, 'out'));
    fs.mkdirSync(`${ramDir}2`);
    for (const file of [
      '/x',
      path.join(elsewhere, 'x'),
      `${ramDir}2/x`,
      `${ramDir}/../x`,
      `${ramDir}/..`,
      `${ramDir}/out/x`,
      `${ramDir}/out/../ram`,
    ])
      expect(refusal(() => ram(file))).toContain(`"ram[0].file" ${within}${file}`);
    expect(refusal(() => ram(`${ramDir}/nowhere/x`))).toContain('in no directory that exists');
    write({ ...MINIMAL, ram: [{ block: 'm', file: path.join(ramDir, 'x') }] });
    expect(refusal(() => loadDefinition(dir, 'vm1', []))).toContain(
      '"ram[0].file" must lie within',
    );
  });

  test('are files, and no links to one', () => {
    const x = path.join(ramDir, 'x');
    fs.symlinkSync(path.join(elsewhere, 'x'), x);
    expect(refusal(() => ram(x))).toContain('is there already, but as something else than a file');
    fs.rmSync(x);
    fs.mkdirSync(x);
    expect(refusal(() => ram(x))).toContain('is there already, but as something else than a file');
    expect(refusal(() => ram(`${ramDir}/.`))).toContain('"ram[0].file" ');
  });

  test('hold one block each, and each block is in one', () => {
    const [x, y] = ['x', 'y'].map((name) => path.join(ramDir, name)) as [string, string];
    fs.symlinkSync(ramDir, path.join(elsewhere, 'link'));
    const twice = 'stands twice: a file holds one RAM block';
    expect(refusal(() => ram(x, y, path.join(elsewhere, 'link', 'x')))).toContain(
      `"ram[2].file" ${twice}`,
    );
    write({ ...MINIMAL, ram: [x, y].map((file) => ({ block: 'm', file })) });
    expect(refusal(load)).toContain('"ram[1].block" stands twice');
    write({ ...MINIMAL, ram: [{ block: 'm'.repeat(256), file: x }] });
    expect(refusal(load)).toContain('"ram[0].block" is longer than the 255 bytes');
  });

  test('are used by the command', () => {
    const { ram, command } = full();
    write(full({ ram: [{ block: 'ram', file: path.join(ramDir, 'vm1') }] }));
    expect(refusal(load)).toContain(`the file ${ramDir}/vm1 of RAM block "ram"`);
    write(full({ ram, command: command.filter((argument) => !argument.includes('mem-path')) }));
    expect(refusal(load)).toContain('"command" gives no memory backend the file');
  });
});

describe('a directory of definitions', () => {
  test('lists good and broken ones by name', () => {
    write(MINIMAL, 'vm2');
    write('{', 'vm1');
    write(MINIMAL, '-x');
    write('not one', 'notes.txt');
    fs.renameSync(path.join(dir, 'notes.txt.json'), path.join(dir, 'notes.txt'));
    expect(listDefinitions(dir, [])).toEqual([
      { name: '-x', error: expect.objectContaining({ code: 'unknown-guest' }) },
      { name: 'vm1', error: expect.objectContaining({ code: 'definition-invalid' }) },
      expect.objectContaining({ name: 'vm2', qmp: QMP }),
    ]);
  });

  test('may be missing: then there are no guests', () => {
    expect(listDefinitions(path.join(dir, 'nowhere'), [])).toEqual([]);
    expect(refusal(load, 'unknown-guest')).toBe(
      `no definition of guest "vm1" in ${dir}; there are none`,
    );
    write(MINIMAL, 'a');
    write(MINIMAL, 'b');
    expect(refusal(load, 'unknown-guest')).toContain('there are a, b');
    const file = path.join(dir, 'a.json');
    expect(refusal(() => listDefinitions(file, []))).toBe(`${file}: cannot be read: ENOTDIR`);
  });

  test.each(['../vm1', '', 'a/b', '.vm1', 'x'.repeat(65)])('has no guest %j', (name) => {
    write(MINIMAL);
    expect(refusal(() => load(name), 'unknown-guest')).toContain('a guest name has');
  });
});

describe('what others may write is not trusted', () => {
  test.each([0o646, 0o664, 0o666])('a file of mode %o', (mode) => {
    fs.chmodSync(write(MINIMAL), mode);
    expect(refusal(load)).toContain('others may write to it, so it cannot be trusted');
  });

  test('a directory', () => {
    write(MINIMAL);
    fs.chmodSync(dir, 0o777);
    expect(refusal(load)).toBe(
      `${dir}: others may write to it, so it cannot be trusted; use "chmod go-w"`,
    );
    expect(listDefinitions(dir, [])).toMatchObject([{ name: 'vm1', error: {} }]);
  });

  test.runIf(process.getuid!() === 0)('a file or a directory of another user', () => {
    fs.chownSync(write(MINIMAL), 12345, 0);
    expect(refusal(load)).toContain('vm1.json: belongs to user 12345');
    write(MINIMAL);
    fs.rmSync(path.join(dir, 'vm1.json'));
    write(MINIMAL);
    fs.chownSync(dir, 12345, 0);
    expect(refusal(load)).toContain(`${dir}: belongs to user 12345`);
  });

  test('what is no file', () => {
    fs.symlinkSync('/dev/zero', path.join(dir, 'vm1.json'));
    expect(refusal(load)).toContain('a definition is a file of at most');
    fs.mkdirSync(path.join(dir, 'vm2.json'));
    expect(refusal(() => load('vm2'))).toContain('a definition is a file of at most');
    fs.symlinkSync('nowhere', path.join(dir, 'vm3.json'));
    expect(refusal(() => load('vm3'))).toContain('vm3.json: cannot be read: ENOENT');
  });
});
