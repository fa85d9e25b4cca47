import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { GodwitError } from '../../errors.ts';
import { formatDuration } from '../../units.ts';
import { lastLines } from '../last-lines.ts';
import { looked } from '../process-identity.ts';

const run = promisify(execFile);

/** As a host's kernel tells of its Xen. */
const VERSION = '/sys/hypervisor/version';
const PYTHON = 'python3';

/**
 * What libxl_domain_resume does for a guest that was asked to suspend itself (tools/libs/light/libxl_domain.c):
 * the hypervisor is told, then xenstored, without whose knowledge it could never be suspended again.
 */
const RESUME = `import sys
domid, sys.path[:0] = int(sys.argv[1]), sys.argv[2:]
from xen.lowlevel import xc, xs
control, store = xc.xc(), xs.xs()
domain = control.domain_getinfo(domid, 1)[0]
if domain['domid'] != domid or not domain['shutdown'] or domain['shutdown_reason'] != 2:
    sys.exit('domain %d is not suspended' % domid)
if domain['hvm'] and store.read('', '/local/domain/0/device-model/%d/state' % domid) is not None:
    sys.exit('domain %d has a device model, which would stay stopped' % domid)
control.domain_resume(domid, 1)
store.resume_domain(domid)
`;

/**
 * Resumes a suspended domain by the Python bindings that come with xl, where xl has no command for it.
 * @throws GodwitError hypervisor-failed, also for one with a device model
 */
export async function resumeByBindings(domid: number, limitMs: number): Promise<void> {
  const limits = { timeout: limitMs, killSignal: 'SIGKILL' as const };
  try {
    await run(PYTHON, ['-c', RESUME, String(domid), ...bindingsDirs()], limits);
  } catch (cause) {
    const { stderr = '', message, killed } = cause as Error & { stderr?: string; killed?: boolean };
    const why = killed
      ? `do not answer within ${formatDuration(limitMs)}`
      : `fail: ${lastLines(stderr, 1) || message}`;
    const text = `xl has no command to resume domain ${domid}, and Xen's Python bindings ${why}`;
    throw new GodwitError('hypervisor-failed', text, { cause });
  }
}

/** Where Debian has them, a directory for each version of Xen; others have them where Python finds them. */
function bindingsDirs(): string[] {
  const part = (name: string) => looked(() => readFileSync(`${VERSION}/${name}`, 'utf8').trim());
  const [major, minor] = [part('major'), part('minor')];
  return major === undefined ? [] : [`/usr/lib/xen-${major}.${minor}/lib/python`];
}
