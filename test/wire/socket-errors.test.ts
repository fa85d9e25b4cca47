import { describe, expect, it } from 'vitest';
import { connectError, lostError } from '../../lib/wire/socket-errors.ts';

const system = (code: string) => Object.assign(new Error(`system ${code}`), { code });
const to = { host: 'host7', port: 7070 };

describe('connectError', () => {
  it.each([
    ['ECONNREFUSED', 'connect-refused'],
    ['ETIMEDOUT', 'connect-timeout'],
    ['EHOSTUNREACH', 'host-unknown'],
    ['ENETUNREACH', 'host-unknown'],
    ['ENOTFOUND', 'host-unknown'],
    ['EAI_AGAIN', 'host-unknown'],
    ['ECONNRESET', 'peer-closed'],
    ['EPIPE', 'peer-closed'],
    ['EMFILE', 'connect-failed'],
  ])('%s is %s', (code, expected) => {
    const cause = system(code);
    expect(connectError(cause, to)).toMatchObject({
      code: expected,
      cause,
      message: expect.stringContaining('host7'),
    });
  });
});

describe('lostError', () => {
  it.each([
    ['ECONNRESET', 'peer-closed'],
    ['EPIPE', 'peer-closed'],
    ['EHOSTUNREACH', 'peer-closed'],
    ['ETIMEDOUT', 'peer-silent'],
  ])('%s is %s', (code, expected) => {
    const cause = system(code);
    expect(lostError(cause)).toMatchObject({ code: expected, cause });
  });
});
