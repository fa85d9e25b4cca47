import { readFileSync } from 'node:fs';
import { type Command, print } from './cli.ts';
import { EXIT } from './view.ts';

/** `version`: of the program and of the Node that runs it. */
export function versionCommand(program: string): Command {
  return {
    name: 'version',
    arguments: [],
    summary: 'Shows the version.',
    options: {},
    async run(input) {
      const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
      const { version } = JSON.parse(manifest) as { version: string };
      const node = process.versions.node;
      print(input, { program, version, node }, () => `${program} ${version} (node ${node})\n`);
      return EXIT.completed;
    },
  };
}
