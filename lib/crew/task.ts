import { asGodwitError, type ErrorCode, GodwitError } from '../errors.ts';

/** What a task can be asked: argument and answer of each request. */
export type Requests = Record<string, { argument: unknown; answer: unknown }>;

export type Handlers<R extends Requests> = {
  readonly [K in keyof R]: (argument: R[K]['argument']) => R[K]['answer'] | Promise<R[K]['answer']>;
};

/** A task as it runs in its worker. */
export interface Running<R extends Requests> {
  readonly handlers: Handlers<R>;
  /**
   * Lets go of all that it holds: sockets, files, timers, memory. Called once; nothing is asked of it
   * any more, and what it still waits for need not come.
   */
  close(): void | Promise<void>;
}

/**
 * What a task's module exports as `begin`. `fail` reports a failure that nobody asked about.
 * It shares its thread: it blocks for no longer than a chunk takes, and waits for nothing but promises.
 */
export type Begin<D, R extends Requests> = (data: D, fail: (error: unknown) => void) => Running<R>;

/** An error on its way between threads. */
export interface PlainError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly fromPeer: boolean;
}

/** To a worker; `task` is the number that the crew has given it. */
export type ToWorker =
  | { readonly task: number; readonly module: string; readonly data: unknown }
  | {
      readonly task: number;
      readonly id: number;
      readonly type: string;
      readonly argument: unknown;
    }
  | { readonly task: number; readonly ends: number };

export type FromWorker =
  | 'started'
  | { readonly task: number; readonly id: number; readonly answer: unknown }
  | { readonly task: number; readonly id: number; readonly error: PlainError }
  | { readonly task: number; readonly failed: PlainError };

export function plain(error: unknown): PlainError {
  const { code, message, fromPeer } = asGodwitError(error);
  return { code, message, fromPeer };
}

export function revive({ code, message, fromPeer }: PlainError): GodwitError {
  return new GodwitError(code, message, { fromPeer });
}
