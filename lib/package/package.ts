import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { buildPackage } from './deb.ts';

/*
 * npm run package [-- --output DIR] [--quick]
 *
 * Makes a Debian package of the project, and prints its name. No root is needed.
 */
const { values } = parseArgs({
  options: {
    output: { type: 'string', default: '.' },
    quick: { type: 'boolean', default: false },
  },
});

// Help and manual name places: of root, whose services the agents are, and not of whoever makes this.
process.getuid = () => 0;
delete process.env.GODWIT_GUEST_DIR;
delete process.env.GODWIT_SEND_SOCKET;
delete process.env.GODWIT_RECV_SOCKET;
const { program: send } = await import('../../agent-send/main.ts');
const { program: receive } = await import('../../agent-recv/main.ts');

const manifest = fs.readFileSync(path.join(import.meta.dirname, '../../package.json'), 'utf8');
const { version } = JSON.parse(manifest) as { version: string };
const { output, quick } = values;
console.log(buildPackage({ programs: [send, receive], version, output, quick }));
