import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { GodwitError } from '../../errors.ts';
import { type Finding, lookAt, notKnown } from '../../finding.ts';

/** Of capabilities(7): processes may be looked at, whoever they belong to. */
const SYS_PTRACE = 19;
const SELINUX = '/sys/fs/selinux/enforce';

/**
 * What confines this agent and stands in the way of a domain that arrives, as far as it shows before one
 * does: QEMU may run as another user, waits on a socket in libvirt's directory, and has its memory in
 * files that are found by its process.
 */
export async function confinement(incomingDir: string): Promise<readonly Finding[]> {
  return [
    await lookAt('sockets', () => reaches(incomingDir)),
    await lookAt('processes', () => sees()),
    ...(existsSync(SELINUX) ? [label(readFileSync(SELINUX, 'latin1'))] : []),
  ];
}

function reaches(dir: string): string {
  try {
    accessSync(dir, constants.W_OK | constants.X_OK);
    return `QEMU's sockets in ${dir} can be reached`;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const text = `QEMU would wait in ${dir}, which this agent cannot use (${code}): see docs/libvirt.md, "With the systemd units"`;
    throw new GodwitError('hypervisor-failed', text, { cause });
  }
}

function sees(): string {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8');
  const status = readFileSync('/proc/self/status', 'utf8');
  if (seesOthers(mounts, status)) return 'the processes of other users can be seen';
  const text =
    "the process of a QEMU that is another user's cannot be seen (hidepid): its unit needs ProtectProc=default";
  throw new GodwitError('hypervisor-failed', text);
}

/** @param mounts as in /proc/PID/mountinfo @param status as in /proc/PID/status; proc(5) */
export function seesOthers(mounts: string, status: string): boolean {
  const procs = mounts.split('\n').filter((line) => / - proc /.test(line) && / \/proc /.test(line));
  const hides = procs.some((line) => /hidepid=(?:[124]|noaccess|invisible|ptraceable)/.test(line));
  return !hides || has(status, SYS_PTRACE);
}

function has(status: string, capability: number): boolean {
  const [, effective = '0'] = /^CapEff:\s*([0-9a-f]+)$/m.exec(status) ?? [];
  return ((BigInt(`0x${effective}`) >> BigInt(capability)) & 1n) === 1n;
}

/** `1` where SELinux refuses, `0` where it only says so. */
export function label(enforce: string): Finding {
  if (enforce.trim() !== '1')
    return { about: 'label', verdict: 'ok', code: '', text: 'SELinux refuses nothing here' };
  const text = "whether SELinux lets QEMU use the agents' sockets has not been tried";
  return notKnown('label', text);
}
