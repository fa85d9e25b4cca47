import { GodwitError } from '../../errors.ts';
import type { RecallPlace, RecallWay } from '../recall/recall-protocol.ts';
import { ControlClient } from './control-client.ts';

/** A connection to the VMM for the recall alone. @throws GodwitError hypervisor-failed, not-seen */
export async function openSimulatedWay({
  socket,
  guest,
  pid,
}: Extract<RecallPlace, { kind: 'simulated' }>): Promise<RecallWay> {
  const client = await ControlClient.connect(socket, guest);
  if ((await client.process()).pid === pid)
    return {
      recall: async () => {
        await client.execute('cont', { stoppedBy: 'agent' });
      },
      close: () => client.close(),
    };
  client.close();
  throw new GodwitError('not-seen', `another VMM serves ${socket}`);
}
