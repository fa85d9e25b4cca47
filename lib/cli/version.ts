import { EXIT } from '../exit.ts';
import { projectVersion } from '../version.ts';
import { type Command, print } from './cli.ts';

/** `version`: of the program and of the Node that runs it. */
export function versionCommand(program: string): Command {
  return {
    name: 'version',
    arguments: [],
    summary: 'Shows the version.',
    options: {},
    async run(input) {
      const version = projectVersion();
      const node = process.versions.node;
      print(input, { program, version, node }, () => `${program} ${version} (node ${node})\n`);
      return EXIT.completed;
    },
  };
}
