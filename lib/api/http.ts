import { open } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { asGodwitError, type ErrorCode, GodwitError } from '../errors.ts';

/** Bytes of a request body: the largest is a migration request of a few hundred. */
export const MAX_BODY = 64 << 10;

/** HTTP status of an error: by what its code says about whose fault it is. */
const STATUS: Partial<Record<ErrorCode, number>> = {
  'bad-option': 400,
  'unknown-migration': 404,
  'unknown-guest': 404,
  'unknown-profile': 404,
  'ambiguous-id': 409,
  'guest-busy': 409,
  'evacuation-open': 409,
  'moved-by-xl': 409,
  'guest-not-running': 409,
  'too-late': 409,
  'cutover-refused': 409,
  'ledger-failed': 500,
  'hypervisor-failed': 502,
  'shutting-down': 503,
  exhausted: 503,
  internal: 500,
};

/** A request that is wrong as HTTP, before it means anything to an agent. */
export class RequestRefused extends GodwitError {
  readonly status: number;

  constructor(status: number, message: string) {
    super('bad-request', message);
    this.status = status;
  }
}

/**
 * The body of a request.
 * @param empty what no body means; without it, that it is not JSON
 * @throws RequestRefused when it is too large or not JSON
 */
export async function readJson(request: IncomingMessage, empty?: unknown): Promise<unknown> {
  const text = await readText(request);
  if (text === '' && empty !== undefined) return empty;
  try {
    return JSON.parse(text);
  } catch {
    throw new RequestRefused(400, 'the request body is not JSON');
  }
}

/** By events: leaving an async iteration early would close the connection before the answer. */
function readText(request: IncomingMessage): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const pieces: Buffer[] = [];
  let size = 0;
  request.on('data', (piece: Buffer) => {
    size += piece.length;
    if (size <= MAX_BODY) {
      pieces.push(piece);
      return;
    }
    pieces.length = 0; // what still comes is read and dropped
    reject(new RequestRefused(413, `a request body has at most ${MAX_BODY} bytes`));
  });
  request.on('end', () => resolve(Buffer.concat(pieces).toString('utf8')));
  request.on('error', reject);
  return promise;
}

export function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(`${JSON.stringify(body)}\n`);
}

/** `{"error":{"code","message"}}`; an answer that has begun already can only be cut off. */
export function sendError(response: ServerResponse, thrown: unknown): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const error = asGodwitError(thrown);
  const { code, message } = error;
  const status = error instanceof RequestRefused ? error.status : (STATUS[code] ?? 422);
  response.setHeader('connection', 'close');
  sendJson(response, status, { error: { code, message } });
}

/** A ledger as it is now. @throws GodwitError unknown-migration, ledger-failed */
export async function sendLedger(response: ServerResponse, file: string): Promise<void> {
  const handle = await open(file).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT')
      throw new GodwitError('unknown-migration', `there is no ledger ${file}`, { cause });
    throw new GodwitError('ledger-failed', `cannot read ${file}: ${cause.message}`, { cause });
  });
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  await pipeline(handle.createReadStream(), response);
}
