import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/**
 * Pacemaker's tools as files: `stonith_admin` answers with NODE.xml, `cibadmin` with cib.xml, and what
 * `crm_resource` was told is in `calls`. They are found while the PATH of this process has them.
 */
export class FakeTools {
  readonly dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-tools-'));
  readonly #path = process.env.PATH;

  constructor() {
    this.#tool('stonith_admin', `cat ${this.dir}/$2.xml`);
    const history = `--delete) echo "forget $5" >>${this.dir}/calls ;;`;
    this.#tool('cibadmin', `case $1 in ${history} *) cat ${this.dir}/cib.xml ;; esac`);
    this.#tool('crm_resource', `echo "$@" >>${this.dir}/calls`);
    this.cib([]);
    process.env.PATH = `${this.dir}:${this.#path}`;
  }

  /** Has the history of a node hold such events, the newest first. */
  history(node: string, ...events: readonly Readonly<Record<string, string>>[]): void {
    const lines = events.map((event) => {
      const all = { action: 'off', target: node, status: 'success', delegate: 'n9', ...event };
      return `<fence_event ${attributes(all)}/>`;
    });
    this.answer(
      node,
      `<pacemaker-result api-version="2.25" request="stonith_admin"><fence_history target="${node}">${lines.join('')}</fence_history><status code="0" message="OK"/></pacemaker-result>`,
    );
  }

  /** Has it answer just that. */
  answer(node: string, text: string): void {
    // In one step: somebody may be reading it.
    fs.writeFileSync(`${this.dir}/next`, `<?xml version="1.0"?>\n${text}\n`);
    fs.renameSync(`${this.dir}/next`, `${this.dir}/${node}.xml`);
  }

  /** Resources of Godwit's agent: names, guests and meta attributes. */
  cib(
    resources: readonly {
      readonly id: string;
      readonly guest: string;
      readonly meta: Readonly<Record<string, string>>;
    }[],
  ): void {
    const nvpair = (name: string, value: string) => `<nvpair ${attributes({ name, value })}/>`;
    const all = resources.map(
      ({ id, guest, meta }) =>
        `<primitive id="${id}" class="ocf" provider="godwit" type="domain"><instance_attributes id="i">${nvpair('guest', guest)}</instance_attributes><meta_attributes id="m">${Object.entries(
          meta,
        )
          .map(([name, value]) => nvpair(name, value))
          .join('')}</meta_attributes></primitive>`,
    );
    fs.writeFileSync(`${this.dir}/cib.xml`, `<resources>${all.join('')}</resources>\n`);
  }

  get calls(): readonly string[] {
    const file = `${this.dir}/calls`;
    return fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trim().split('\n') : [];
  }

  end(): void {
    process.env.PATH = this.#path;
    fs.rmSync(this.dir, { recursive: true });
  }

  #tool(name: string, command: string): void {
    fs.writeFileSync(path.join(this.dir, name), `#!/bin/sh\n${command}\n`, { mode: 0o755 });
  }
}

/** As Pacemaker writes times. */
export function inHistory(ms: number): string {
  return new Date(ms).toISOString().replace('T', ' ').replace(/\.\d+/, '');
}

function attributes(all: Readonly<Record<string, string>>): string {
  return Object.entries(all)
    .map(([name, value]) => `${name}="${value}"`)
    .join(' ');
}
