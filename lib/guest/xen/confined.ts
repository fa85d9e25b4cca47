import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { GodwitError } from '../../errors.ts';

/** Where xl keeps what it knows of its domains, their logs, and the sockets of their device models. */
const KEEPS = ['/var/lib/xen', '/var/log/xen', '/run/xen'];
/** Of capabilities(7): its scripts connect a domain to bridges and disks. */
const CAPABILITIES: Readonly<Record<string, bigint>> = {
  CAP_NET_ADMIN: 1n << 12n,
  CAP_SYS_ADMIN: 1n << 21n,
};

/**
 * Whether what confines this agent lets the xl that it starts make a domain, as far as it shows before one
 * arrives. @throws GodwitError hypervisor-failed, naming what it keeps from xl
 */
export function requireUnconfined(): void {
  for (const dir of KEEPS.filter((one) => existsSync(one)))
    try {
      accessSync(dir, constants.W_OK | constants.X_OK);
    } catch (cause) {
      throw confined(`xl cannot write ${dir} (${(cause as NodeJS.ErrnoException).code})`);
    }
  const lacking = lackingOf(readFileSync('/proc/self/status', 'utf8'));
  if (lacking.length > 0) throw confined(`xl has no ${lacking.join(' and no ')}`);
}

/** Capabilities that xl needs and a process has not. @param status as in /proc/PID/status; proc(5) */
export function lackingOf(status: string): string[] {
  const [, bounds = '0'] = /^CapBnd:\s*([0-9a-f]+)$/m.exec(status) ?? [];
  const has = BigInt(`0x${bounds}`);
  return Object.keys(CAPABILITIES).filter((name) => (has & CAPABILITIES[name]!) === 0n);
}

function confined(what: string): GodwitError {
  const text = `${what}, as this agent's unit has it: see docs/xen.md, "With the systemd units"`;
  return new GodwitError('hypervisor-failed', text);
}
