import fs from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { join } from '../report/chart/markup.ts';
import { REPORT_STYLE } from '../report/report-style.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const PAGE = 'lib/web/page';

/** What is served under a path. */
export interface PageFile {
  readonly type: string;
  readonly body: string;
}

/** Of whom the page is. */
export interface Shown {
  readonly role: 'send' | 'receive';
  /** Name of the host. */
  readonly host: string;
}

/**
 * All that the page is made of, by path. It is read once: an upgrade changes no page under a daemon that
 * runs. Modules are this project's own, without their types, those that `main.ts` imports and no others.
 */
export function pageFiles({ role, host }: Shown): ReadonlyMap<string, PageFile> {
  const modules = modulesFrom(`${PAGE}/main.ts`);
  const agent = role === 'send' ? 'agent-send' : 'agent-recv';
  const preloads = [...modules.keys()].map(
    (name) => `<link rel="modulepreload" href="modules/${name}" />`,
  );
  const html = Object.entries({
    '%ROLE%': role,
    '%AGENT%': agent,
    '%HOST%': join([host]).text,
    '%PRELOADS%': preloads.join('\n    '),
  }).reduce((text, [mark, value]) => text.replaceAll(mark, () => value), read('index.html'));
  return new Map([
    ['/', { type: 'text/html', body: html }],
    ['/page.css', { type: 'text/css', body: `${REPORT_STYLE}${read('page.css')}` }],
    ...[...modules].map(([name, body]): [string, PageFile] => [
      `/modules/${name}`,
      { type: 'text/javascript', body },
    ]),
  ]);
}

/** Modules by their path in the project: the one that is named, and those that it needs. */
function modulesFrom(main: string): Map<string, string> {
  const found = new Map<string, string>();
  const add = (name: string) => {
    if (found.has(name)) return;
    const code = stripped(fs.readFileSync(path.join(ROOT, name), 'utf8'));
    found.set(name, code);
    for (const [, to] of code.matchAll(/\bfrom\s*'(\.[^']+)'/g))
      add(path.posix.join(path.posix.dirname(name), to!));
  };
  add(main);
  return found;
}

function read(name: string): string {
  return fs.readFileSync(path.join(ROOT, PAGE, name), 'utf8');
}

/** Node warns that other versions may do it otherwise: the project comes with the one that it needs. */
function stripped(code: string): string {
  const { emitWarning } = process;
  process.emitWarning = () => {};
  try {
    return stripTypeScriptTypes(code);
  } finally {
    process.emitWarning = emitWarning;
  }
}
