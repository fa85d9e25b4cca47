import type { RecallPlace, RecallWay } from '../recall/recall-protocol.ts';
import { TransportClient } from './transport-protocol.ts';

/** A connection to the guest's `agent-send xl` for the recall alone: xl resumes the guest. @throws as `connect` */
export async function openXenWay({
  socket,
}: Extract<RecallPlace, { kind: 'xen' }>): Promise<RecallWay> {
  const client = await TransportClient.connect(socket);
  return {
    recall: () => client.tell('deny'),
    close: () => client.close(),
  };
}
