import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';

/** Rooms from the lowest to the highest: a file imports from its own room and from lower ones. */
const ROOMS = [
  ...[
    'lib',
    'lib/crew',
    'lib/memory',
    'lib/wire',
    'lib/pages',
    'lib/disks',
    'lib/stream',
    'lib/guest',
    'lib/precopy',
  ],
  ...[
    'lib/ownership',
    'lib/cluster',
    'lib/report',
    'lib/migration',
    'lib/evacuation',
    'lib/api',
    'lib/web',
    'lib/daemon',
    'lib/cli',
  ],
  'lib/resource',
  ...['agent-send', 'agent-recv'],
  'lib/package',
];
const root = path.join(import.meta.dirname, '..');

test('arrows between rooms go down only', () => {
  const upward = sources().flatMap((file) =>
    imports(file)
      .filter((imported) => rank(imported) > rank(file))
      .map((imported) => `${file} imports ${imported}`),
  );
  expect(upward).toEqual([]);
});

test('the agents know nothing of each other', () => {
  const agents = sources().filter((file) => file.startsWith('agent-'));
  const across = agents.flatMap((file) =>
    imports(file).filter(
      (imported) => imported.startsWith('agent-') && roomOf(imported) !== roomOf(file),
    ),
  );
  expect(across).toEqual([]);
});

/** What each kind of hypervisor may know besides itself: libvirt's guests are QEMU's, Xen's memory is staged like theirs. */
const KINDS: Readonly<Record<string, readonly string[]>> = {
  'lib/guest/simulated/': [],
  'lib/guest/qemu/': [],
  'lib/guest/libvirt/': ['lib/guest/qemu/'],
  'lib/guest/xen/': ['lib/guest/qemu/staging.ts'],
};

test('one hypervisor knows nothing of another', () => {
  const across = Object.entries(KINDS).flatMap(([kind, known]) =>
    sources()
      .filter((file) => file.startsWith(kind))
      .flatMap((file) =>
        imports(file)
          .filter((imported) => !known.some((one) => imported.startsWith(one)))
          .filter((imported) => foreign(kind).some((other) => imported.startsWith(other)))
          .map((imported) => `${file} imports ${imported}`),
      ),
  );
  expect(across).toEqual([]);
});

function foreign(kind: string): string[] {
  return Object.keys(KINDS).filter((other) => other !== kind);
}

function rank(file: string): number {
  const found = ROOMS.indexOf(roomOf(file));
  expect(found, `${file} is in no room that ROOMS knows`).not.toBe(-1);
  return found;
}

function roomOf(file: string): string {
  const [top = '', room = '', ...rest] = file.split('/');
  return top === 'lib' && rest.length > 0 ? `${top}/${room}` : top;
}

function sources(): string[] {
  return ['lib', 'agent-send', 'agent-recv'].flatMap((dir) =>
    fs
      .readdirSync(path.join(root, dir), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => path.join(dir, name)),
  );
}

/** Paths of what a file imports, from the root. */
function imports(file: string): string[] {
  const text = fs.readFileSync(path.join(root, file), 'utf8');
  const found = text.matchAll(/(?:from|import\()\s*'(\.[^']+)'/g);
  return [...found].map(([, to]) => path.normalize(path.join(path.dirname(file), to!)));
}
