import type { Begin } from '../../lib/crew/task.ts';

export type OddRequests = {
  echo: { argument: string; answer: string };
  refuse: { argument: undefined; answer: undefined };
  wait: { argument: undefined; answer: undefined };
  fail: { argument: string; answer: undefined };
  throwLater: { argument: undefined; answer: undefined };
  exit: { argument: undefined; answer: undefined };
  hoard: { argument: undefined; answer: undefined };
};

/** Does what tasks should not. `data.closed`: Int32, counts its ends; `data.refuses`: cannot even begin. */
export const begin: Begin<{ closed: SharedArrayBuffer; refuses?: boolean }, OddRequests> = (
  { closed, refuses },
  fail,
) => {
  if (refuses) throw new Error('it does not want to');
  return {
    handlers: {
      echo: (text) => text,
      refuse: () => {
        throw new Error('no');
      },
      wait: () => new Promise(() => {}),
      fail: (why) => {
        fail(new Error(why));
        return undefined;
      },
      throwLater: () => {
        setTimeout(() => {
          throw new Error('thrown where nobody listens');
        });
        return new Promise(() => {});
      },
      exit: () => process.exit(7),
      hoard: () => {
        for (const all: object[] = []; ; ) all.push(new Array(100_000).fill(all.length));
      },
    },
    close: () => {
      Atomics.add(new Int32Array(closed), 0, 1);
    },
  };
};
