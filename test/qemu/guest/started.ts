import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';

/**
 * By which a QEMU is asked whether it has started: 7.2 crashes or hangs once in some hundred times when a
 * client of a monitor on a socket comes, or leaves, while it is still starting.
 */
export const ASKED_ON_STDIO = ['-qmp', 'stdio'];

/**
 * Waits until the main loop of a QEMU with ASKED_ON_STDIO turns. Its stdin and stdout must be pipes.
 * @throws Error when it ends before
 */
export async function hasStarted({ stdin, stdout }: ChildProcess): Promise<void> {
  stdin!.on('error', () => {}); // it has ended, and so has what it says
  stdin!.write('{"execute":"qmp_capabilities"}\n');
  const answered = Promise.withResolvers<void>();
  let said = '';
  stdout!.setEncoding('utf8').on('data', (text: string) => {
    said += text;
    if (said.includes('"return"')) answered.resolve();
  });
  const ended = once(stdout!, 'close').then(() => {
    throw new Error('QEMU ended before it had started');
  });
  ended.catch(() => {}); // it will, one day
  await Promise.race([answered.promise, ended]);
}
