import type { ServerResponse } from 'node:http';
import { asGodwitError, GodwitError } from '../errors.ts';
import type { SenderBackend } from './backend.ts';
import type { ProfileRequest } from './request.ts';

/**
 * Takes a profile and tells how it goes, as server-sent events: `progress`, and `profile` or `error`
 * at the end. A client that goes away ends it; of one that does not read some progress is left out.
 * @throws GodwitError what is wrong before it has begun
 */
export async function streamProfile(
  backend: SenderBackend,
  guest: string,
  asked: ProfileRequest,
  response: ServerResponse,
): Promise<void> {
  const gone = new AbortController();
  response.once('close', () =>
    gone.abort(new GodwitError('cancelled', `nobody waits for the profile of guest ${guest}`)),
  );
  const tell = (event: string, data: unknown) => {
    if (!response.headersSent)
      response.writeHead(200, {
        'content-type': 'text/event-stream',
        'cache-control': 'no-store',
        connection: 'close',
      });
    response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  };
  try {
    const onProgress = (progress: unknown) => {
      if (!response.writableNeedDrain) tell('progress', progress);
    };
    tell('profile', await backend.profile(guest, { ...asked, signal: gone.signal, onProgress }));
  } catch (thrown) {
    if (!response.headersSent) throw thrown;
    const { code, message } = asGodwitError(thrown);
    tell('error', { error: { code, message } });
  }
  response.end();
}
