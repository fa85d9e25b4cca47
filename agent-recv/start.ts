import { publishMetrics } from '../lib/api/metrics-outlets.ts';
import { ControlServer } from '../lib/api/server.ts';
import { warnOfInsecurity } from '../lib/cli/security-options.ts';
import { Crew, crewSize } from '../lib/crew/crew.ts';
import type { Daemon } from '../lib/daemon/signals.ts';
import { RECEIVE_DISKS } from '../lib/disks/disk-protocol.ts';
import { DESTINATION_TASKS } from '../lib/guest/guests.ts';
import { log } from '../lib/log.ts';
import { DESTINATION_STATES } from '../lib/ownership/destination-machine.ts';
import { Ownership } from '../lib/ownership/ownership.ts';
import { RECEIVE_LANE } from '../lib/pages/receive-pool.ts';
import { WebServer } from '../lib/web/server.ts';
import { RecvDaemon } from './daemon.ts';
import type { RecvDaemonOptions } from './options.ts';

/** Starts the daemon; it listens and serves its control socket until `stop`. */
export async function startRecvDaemon(
  options: RecvDaemonOptions,
): Promise<Daemon<RecvDaemonOptions>> {
  warnOfInsecurity(options.security);
  if (options.security.credentials !== undefined && options.allowed.isEmpty)
    log('warn', 'no sender is admitted: --allow-peer names nobody');
  const crew = new Crew(crewSize(), [RECEIVE_LANE, RECEIVE_DISKS, ...DESTINATION_TASKS]);
  try {
    return await startWith(options, crew);
  } catch (error) {
    await crew.stop();
    throw error;
  }
}

async function startWith(
  options: RecvDaemonOptions,
  crew: Crew,
): Promise<Daemon<RecvDaemonOptions>> {
  const ownership = await Ownership.open('destination', DESTINATION_STATES, options);
  const daemon = new RecvDaemon(options, ownership, crew);
  const { web: webOptions, security } = options;
  let server: ControlServer | undefined;
  let endMetrics: (() => Promise<void>) | undefined;
  let web: WebServer | undefined;
  let status: string;
  try {
    server = await ControlServer.open(options.socket, daemon, options.socketGroup);
    endMetrics = await publishMetrics(options, daemon);
    web = webOptions && (await WebServer.open(webOptions, security, daemon));
    daemon.recover(); // before a sender can ask
    await crew.started();
    const { address, port } = await daemon.listen();
    status = `listening on ${address} port ${port}, control socket ${options.socket}`;
    log('info', `agent-recv ready: ${status}`);
  } catch (error) {
    web?.close();
    await endMetrics?.();
    await server?.close();
    await ownership.close();
    throw error;
  }
  return {
    status,
    reload: (renewed) => {
      daemon.reload(renewed);
      web?.renew(renewed.security);
    },
    stop: async () => {
      await daemon.stop();
      web?.close();
      await endMetrics();
      await server.close();
    },
  };
}
