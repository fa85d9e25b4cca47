import type { AgentBackend } from './backend.ts';
import { MetricsFile } from './metrics-file.ts';
import { MetricsServer, type TcpAddress } from './metrics-server.ts';

/** Where metrics are to be had besides the control socket. */
export interface MetricsOutlets {
  readonly metricsListen: TcpAddress | undefined;
  readonly metricsTextfile: string | undefined;
}

/** Returns what ends it. @throws GodwitError listen-failed, metrics-failed */
export async function publishMetrics(
  { metricsListen, metricsTextfile }: MetricsOutlets,
  backend: AgentBackend,
): Promise<() => Promise<void>> {
  const server = metricsListen && (await MetricsServer.open(metricsListen, backend));
  try {
    const file =
      metricsTextfile === undefined ? undefined : await MetricsFile.open(metricsTextfile, backend);
    return async () => {
      server?.close();
      await file?.close();
    };
  } catch (error) {
    server?.close();
    throw error;
  }
}
