import { checkText } from '../../lib/cli/check-text.ts';
import { type Command, print } from '../../lib/cli/cli.ts';
import { EXIT } from '../../lib/exit.ts';
import type { CheckView } from '../../lib/migration/check/view.ts';
import { guestOptions, manage, requestOf, requestOptions } from './migrate.ts';
import { VIRSH_OPTIONS } from './virsh-options.ts';

const EXIT_OF: Readonly<Record<CheckView['expected'], number>> = {
  yes: EXIT.completed,
  refused: EXIT.failed,
  no: EXIT['aborted-by-policy'],
  perhaps: EXIT['not-known'],
  unknown: EXIT['not-known'],
};

export const check: Command = {
  name: 'check',
  arguments: ['GUEST', 'HOST[:PORT]'],
  summary: 'Says whether such a move would be taken and what it would be like; starts nothing.',
  options: { ...requestOptions, ...guestOptions, socket: manage.socket },
  foreign: VIRSH_OPTIONS,
  async run(input) {
    const client = manage.client(input);
    const view = await client.request<CheckView>('POST', '/checks', requestOf(input));
    print(input, view, checkText);
    return EXIT_OF[view.expected];
  },
};
