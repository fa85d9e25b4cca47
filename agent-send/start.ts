import { publishMetrics } from '../lib/api/metrics-outlets.ts';
import { ControlServer } from '../lib/api/server.ts';
import { Crew, crewSize } from '../lib/crew/crew.ts';
import type { Daemon } from '../lib/daemon/signals.ts';
import { SEND_DISKS } from '../lib/disks/disk-protocol.ts';
import { EvacuationStore } from '../lib/evacuation/store.ts';
import { SOURCE_TASKS } from '../lib/guest/guests.ts';
import { Recalls } from '../lib/guest/recall/recalls.ts';
import { log } from '../lib/log.ts';
import { Experiences } from '../lib/migration/experiences.ts';
import { Ownership } from '../lib/ownership/ownership.ts';
import { SOURCE_STATES } from '../lib/ownership/source-machine.ts';
import { SEND_LANE } from '../lib/pages/send-pool.ts';
import { WebServer } from '../lib/web/server.ts';
import { SendDaemon, stopThreads, type Threads } from './daemon.ts';
import type { SendDaemonOptions } from './options.ts';

/** Starts the daemon; it serves its control socket until `stop`. */
export async function startSendDaemon(
  options: SendDaemonOptions,
): Promise<Daemon<SendDaemonOptions>> {
  const crew = new Crew(crewSize(), [SEND_LANE, SEND_DISKS, ...SOURCE_TASKS]);
  const threads = { crew, recalls: new Recalls() };
  try {
    return await startWith(options, threads);
  } catch (error) {
    await stopThreads(threads);
    throw error;
  }
}

async function startWith(
  options: SendDaemonOptions,
  threads: Threads,
): Promise<Daemon<SendDaemonOptions>> {
  const ownership = await Ownership.open('source', SOURCE_STATES, options);
  const experiences = await Experiences.open(options.stateDir);
  const evacuations = await EvacuationStore.open(options.stateDir);
  const daemon = new SendDaemon(options, ownership, experiences, threads, evacuations);
  const { web: webOptions, security } = options;
  let server: ControlServer | undefined;
  let endMetrics: (() => Promise<void>) | undefined;
  let web: WebServer | undefined;
  try {
    server = await ControlServer.open(options.socket, daemon, options.socketGroup);
    endMetrics = await publishMetrics(options, daemon);
    web = webOptions && (await WebServer.open(webOptions, security, daemon));
    await Promise.all([threads.crew.started(), threads.recalls.started()]);
  } catch (error) {
    web?.close();
    await endMetrics?.();
    await server?.close();
    await ownership.close();
    throw error;
  }
  daemon.recover();
  const status = `control socket ${options.socket}, guests in ${options.guestDir}`;
  log('info', `agent-send ready: ${status}`);
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
