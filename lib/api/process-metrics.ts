import { readdirSync, readFileSync } from 'node:fs';
import type { Exposition } from './exposition.ts';

/** When this process started, seconds since 1970. */
const STARTED = (Date.now() - process.uptime() * 1000) / 1000;

/** The names that Prometheus' own clients have for what every process has. */
export function addProcess(to: Exposition): Exposition {
  const { user, system } = process.cpuUsage();
  return to
    .counter('process_cpu_seconds_total', 'CPU time of the agent.', (user + system) / 1e6)
    .gauge('process_resident_memory_bytes', 'Memory of the agent.', process.memoryUsage.rss())
    .gauge('process_open_fds', 'Files and connections that the agent has open.', openFiles())
    .gauge('process_max_fds', 'Files and connections that it may have open.', mostFiles())
    .gauge('process_start_time_seconds', 'When the agent started, since 1970.', STARTED);
}

function openFiles(): number | undefined {
  return looked(() => readdirSync('/proc/self/fd').length - 1); // without the one that looks
}

function mostFiles(): number | undefined {
  const limits = looked(() => readFileSync('/proc/self/limits', 'utf8')) ?? '';
  const most = /^Max open files +(\d+)/m.exec(limits)?.[1];
  return most === undefined ? undefined : Number(most);
}

/** Where there is no /proc, or no descriptor to read it with, there is no figure. */
function looked<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
