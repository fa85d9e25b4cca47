/**
 * What a thread needs to make a suspended guest run again here by a way of its own: it can be handed
 * to another thread.
 */
export type RecallPlace =
  | {
      readonly kind: 'simulated';
      readonly socket: string;
      readonly guest: string;
      readonly pid: number;
    }
  /** The guest runs again when its migration stream ends. */
  | { readonly kind: 'qemu'; readonly end: SharedArrayBuffer }
  /** xl makes it run again when its transport, which listens there, tells it to. */
  | { readonly kind: 'xen'; readonly socket: string };

/** That way, when it is open. */
export interface RecallWay {
  /** The guest runs again if the migration has suspended it; any other stays as it is. */
  recall(): Promise<void>;
  close(): void;
}

/** What the main thread asks of the recall thread about one suspension to come. */
export type RecallRequests = {
  /** Opens the way, before the guest is suspended. */
  open: { argument: undefined; answer: undefined };
  /** Recalls the guest at that moment, on the clock of `process.hrtime.bigint`, if it is its turn then. */
  arm: {
    argument: { readonly atNs: bigint; readonly turn: SharedArrayBuffer };
    /** When the guest was told to run, and whether it was this thread's turn. */
    answer: Recalled;
  };
  /** It is not wanted any more: what was armed is answered. */
  callOff: { argument: undefined; answer: undefined };
};

/** What came of it: it was not its turn; or how long the guest took to run again, ms, or why it may not. */
export type Recalled =
  | { readonly done: false }
  | { readonly done: true; readonly ms: number; readonly trouble: string | undefined };
