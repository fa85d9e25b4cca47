import { spawn } from 'node:child_process';
import { defaultPaths } from '../lib/daemon/paths.ts';
import { HelperLink } from '../lib/guest/xen/helper-link.ts';
import { SaveHelper } from '../lib/guest/xen/save-helper.ts';

/**
 * Stands between libxl and its save helper, as `agent-send-helper` starts it:
 *
 *     --save-domain IO_FD RECV_FD DOMID FLAGS CBFLAGS STREAM_TYPE
 *
 * GODWIT_SAVE_HELPER is Xen's own helper. Ends as that does.
 */
async function interpose(args: readonly string[]): Promise<void> {
  const { guestDir } = defaultPaths('agent-send');
  const fds = args.slice(1, 3).map(Number);
  // The descriptors that its arguments name are its own by the same numbers.
  const stdio: ('pipe' | 'inherit' | 'ignore' | number)[] = ['pipe', 'pipe', 'inherit'];
  for (let fd = 3; fd <= Math.max(...fds); fd++) stdio.push(fds.includes(fd) ? fd : 'ignore');

  // Told to end, a helper has libxc clean up; so the one in front of it stays until that is done.
  let terminate = (): void => process.exit(1); // nothing has begun
  process.on('SIGTERM', () => terminate());

  const link = await HelperLink.find(process.ppid, guestDir);
  const helper = spawn(process.env.GODWIT_SAVE_HELPER!, args, { stdio });
  const { stdin: input, stdout: output } = process;
  output.on('error', () => helper.kill('SIGKILL')); // libxl is gone
  const between = new SaveHelper({ input, output, helper, link });
  terminate = () => between.end();
  helper.on('error', (error) => {
    process.stderr.write(`agent-send-helper: ${error.message}\n`);
    process.exit(1);
  });
  helper.on('close', (code, signal) => {
    link?.close();
    input.destroy();
    if (signal === null) process.exitCode = code!;
    else {
      process.removeAllListeners(signal);
      process.kill(process.pid, signal);
    }
  });
}

if (import.meta.main) await interpose(process.argv.slice(2));
