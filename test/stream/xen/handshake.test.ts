import { describe, expect, it } from 'vitest';
import {
  BANNER,
  DENIED,
  GO,
  READY,
  REPORT,
  type ReceiverMessage,
  ReceiverMessages,
  RUNS,
  SenderMessage,
} from '../../../lib/stream/xen/handshake.ts';
import { feedIn } from './events.ts';

function heard(bytes: Buffer, ...pieces: number[]): ReceiverMessage[] {
  const messages: ReceiverMessage[] = [];
  feedIn(pieces, bytes, new ReceiverMessages((message) => messages.push(message)));
  return messages;
}

const begun = [{ type: 'banner' }, { type: 'ready' }];

describe('what xl migrate-receive says', () => {
  it('has the lengths that xl 4.17 sent', () => {
    expect([BANNER, READY, GO, REPORT].map(({ length }) => length)).toEqual([54, 34, 44, 39]);
  });

  it('is heard wherever it is cut', () => {
    const runs = Buffer.concat([BANNER, READY, RUNS]);
    const denied = Buffer.concat([BANNER, READY, DENIED]);
    for (let cut = 1; cut < denied.length; cut++) {
      const pieces = [cut, denied.length];
      expect(heard(runs, ...pieces)).toEqual([...begun, { type: 'report', code: 0 }]);
      expect(heard(denied, ...pieces)).toEqual([
        ...begun,
        { type: 'report', code: 1 },
        { type: 'yours' },
      ]);
    }
  });

  it.each([
    ['another banner', Buffer.from('xl: command not found'), 'something other than the banner'],
    ['a report in place of ready', Buffer.concat([BANNER, REPORT]), 'other than the ready message'],
    ['bytes after a report', Buffer.concat([BANNER, READY, RUNS, GO]), 'bytes after its last'],
    ['bytes after all', Buffer.concat([BANNER, READY, DENIED, GO]), 'bytes after its last'],
  ])('is refused: %s', (_what, bytes, words) => {
    for (const pieces of [[], [1]])
      expect(() => heard(bytes, ...pieces)).toThrow(
        expect.objectContaining({ code: 'xen-stream', message: expect.stringContaining(words) }),
      );
  });
});

describe('what xl says after its stream', () => {
  it('is GO, and nothing else', () => {
    for (const pieces of [[], [1], [40, 3]]) {
      let goes = 0;
      const message = new SenderMessage(() => goes++);
      feedIn(pieces, GO.subarray(0, -1), message);
      expect(goes).toBe(0);
      message.feed(GO.subarray(-1));
      expect(goes).toBe(1);
      expect(() => message.feed(GO)).toThrow('bytes after GO');
    }
    expect(() => new SenderMessage(() => {}).feed(READY)).toThrow('other than the GO message');
  });
});
