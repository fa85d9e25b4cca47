import { spawnSync } from 'node:child_process';

const found = spawnSync('promtool', ['--version']).status === 0;

/** Prometheus' own judgement, where its tool is installed (Debian: prometheus). */
export const promtool = found
  ? (args: readonly string[], input = '') => {
      const { status, stdout, stderr } = spawnSync('promtool', args, { input, encoding: 'utf8' });
      return { status, said: `${stdout}${stderr}` };
    }
  : undefined;

export function titled(text: string): string {
  return found ? `promtool ${text}` : `promtool ${text} (skipped: it is not installed)`;
}
