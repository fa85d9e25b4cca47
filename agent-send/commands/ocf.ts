import type { Command } from '../../lib/cli/cli.ts';

/** What the package has as `ocf:godwit:domain`. */
export const ocf: Command = {
  name: 'ocf',
  arguments: ['ACTION'],
  summary: 'Answers Pacemaker as resource agent ocf:godwit:domain; exits with codes of OCF.',
  options: {},
  async run({ arguments: [action = ''] }) {
    // Every other command starts faster without.
    const { answerPacemaker } = await import('../../lib/resource/answer.ts');
    return answerPacemaker(action, process.env);
  },
};
