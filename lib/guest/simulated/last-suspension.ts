import type { GuestSuspension } from '../guest.ts';
import type { ControlClient } from './control-client.ts';

/** What the guest's heartbeat says of the suspension that it has last come out of. */
export async function lastSuspension(client: ControlClient): Promise<GuestSuspension | undefined> {
  const answer = await client.execute<{ lastSuspension?: GuestSuspension }>('query-heartbeat');
  return answer.lastSuspension;
}
