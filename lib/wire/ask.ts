import { GodwitError } from '../errors.ts';
import type { Connection, Received } from './connection.ts';

/** Kinds that answer what opens a connection. */
type AnswerKind = 'Welcome' | 'Rejoined' | 'LaneReady' | 'CheckAnswer';
type Answer<K extends AnswerKind> = Extract<Received, { kind: K }>['message'];

export interface Question<K extends AnswerKind> {
  readonly say: (connection: Connection) => void;
  readonly answer: K;
  readonly limitMs: number;
  /**
   * Called with the answer before anything that follows it, which may be in the same segment: whoever
   * is to hear that takes the connection over here (`Connection.serve`).
   */
  readonly take: (message: Answer<K>) => void;
}

/** How to make a connection that `ask` is to serve. */
export const UNSERVED = { onMessage: () => {}, onClose: () => {} };

/**
 * Says what opens a connection and waits for the one answer to it.
 * @throws GodwitError peer-silent after `limitMs`, bad-message for another message, what `take`
 *   threw, or why the connection ended; it has ended then
 */
export async function ask<K extends AnswerKind>(
  connection: Connection,
  { say, answer, limitMs, take }: Question<K>,
): Promise<void> {
  const answered = Promise.withResolvers<void>();
  answered.promise.catch(() => {}); // nobody waits for it when `say` throws
  connection.serve({
    onMessage: ({ kind, message }) => {
      if (kind !== answer)
        throw new GodwitError('bad-message', `the receiver sent ${kind} before ${answer}`);
      take(message as Answer<K>);
      answered.resolve();
    },
    onClose: (error) =>
      answered.reject(error ?? new GodwitError('peer-closed', 'the connection was closed')),
  });
  say(connection);
  const late = new GodwitError('peer-silent', `the receiver says no ${answer} in ${limitMs} ms`);
  const timer = setTimeout(() => connection.destroy(late), limitMs);
  await answered.promise.finally(() => clearTimeout(timer));
}
