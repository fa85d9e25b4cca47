import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isGuestName } from '../../lib/guest-name.ts';
import {
  checkAccept,
  checkGuestOffer,
  checkWelcome,
  chooseWelcome,
  helloMessage,
  ownTerms,
  type Terms,
} from '../../lib/wire/handshake.ts';

const refused = (code: string, text: RegExp) =>
  expect.objectContaining({ code, message: expect.stringMatching(text) });

const LIMITS = { lanes: 8, batchPayload: 1_114_112, window: 16 };
const terms = (change: Partial<Terms> = {}): Terms => ({
  ...ownTerms('godwit 0.1.0', ['zstd'], LIMITS),
  ...change,
});

describe('negotiation', () => {
  it('offers what the terms say', () => {
    expect(helloMessage(terms())).toEqual({
      minVersion: 3,
      maxVersion: 3,
      agent: 'godwit 0.1.0',
      features: ['zstd'],
      limits: LIMITS,
    });
  });

  it('chooses the highest common version, common features and smaller limits', () => {
    const hello = helloMessage(
      terms({
        minVersion: 2,
        maxVersion: 5,
        features: ['zstd', 'future'],
        limits: { ...LIMITS, window: 99 },
      }),
    );
    const own = terms({
      minVersion: 1,
      maxVersion: 3,
      agent: 'receiver',
      features: ['other', 'zstd'],
      limits: { lanes: 4, batchPayload: 2 ** 21, window: 64 },
    });
    expect(chooseWelcome(hello, own)).toEqual({
      version: 3,
      agent: 'receiver',
      features: ['zstd'],
      limits: { lanes: 4, batchPayload: 1_114_112, window: 64 },
    });
  });

  it.each([
    [2, 3, 1, 1, /the sender speaks versions 2 to 3, the receiver version 1/],
    [1, 1, 2, 4, /the sender speaks version 1, the receiver versions 2 to 4/],
  ])('has no answer to versions %i-%i for %i-%i', (min, max, ownMin, ownMax, text) => {
    const hello = helloMessage(terms({ minVersion: min, maxVersion: max }));
    const own = terms({ minVersion: ownMin, maxVersion: ownMax });
    expect(() => chooseWelcome(hello, own)).toThrow(refused('bad-version', text));
  });

  it.each([
    ['an upside-down range', { minVersion: 2, maxVersion: 1 }],
    ['no lanes', { limits: { ...LIMITS, lanes: 0 } }],
    ['no window', { limits: { ...LIMITS, window: 0 } }],
    ['batches smaller than a page', { limits: { ...LIMITS, batchPayload: 4095 } }],
  ])('refuses a Hello with %s', (_, change) => {
    const hello = helloMessage(terms(change));
    expect(() => chooseWelcome(hello, terms())).toThrow(refused('bad-message', /Hello/));
  });

  it('always gives a Welcome that the sender accepts', () => {
    const limits = fc.record({
      lanes: fc.integer({ min: 1, max: 100 }),
      batchPayload: fc.integer({ min: 4096, max: 2 ** 21 }),
      window: fc.integer({ min: 1, max: 100 }),
    });
    const side = fc.record({
      minVersion: fc.integer({ min: 0, max: 3 }),
      maxVersion: fc.integer({ min: 3, max: 6 }),
      agent: fc.string(),
      features: fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd')),
      limits,
    });
    fc.assert(
      fc.property(side, side, (sender, receiver) => {
        const hello = helloMessage(sender);
        checkWelcome(hello, chooseWelcome(hello, receiver));
      }),
    );
  });
});

describe('checkWelcome', () => {
  const hello = helloMessage(terms());
  const welcome = chooseWelcome(hello, terms());

  it.each([
    [
      'version',
      { version: 4 },
      'bad-version',
      /chose protocol version 4; the sender speaks version 3/,
    ],
    ['feature', { features: ['zstd', 'lz4'] }, 'bad-message', /"lz4"/],
    ['lanes', { limits: { ...LIMITS, lanes: 9 } }, 'bad-message', /lanes 9 of 8/],
    ['payload', { limits: { ...LIMITS, batchPayload: 2 ** 21 } }, 'bad-message', /batchPayload/],
    ['window', { limits: { ...LIMITS, window: 17 } }, 'bad-message', /window 17 of 16/],
    ['empty window', { limits: { ...LIMITS, window: 0 } }, 'bad-message', /Welcome limits/],
  ])('refuses a %s that was not offered', (_, change, code, text) => {
    expect(() => checkWelcome(hello, { ...welcome, ...change })).toThrow(refused(code, text));
  });
});

describe('checkGuestOffer', () => {
  const offer = {
    migration: '0123456789abcdef',
    epoch: 1,
    guest: 'db-7.example_1',
    hypervisor: 'simulated',
    deviceModel: 'm1',
    pageSize: 4096,
    regions: [
      { name: 'low', firstPfn: 0, pages: 100 },
      { name: 'high', firstPfn: 512, pages: 256 },
    ],
    hashSeed: 5n,
    keptSecret: new Uint8Array(0),
    verify: false,
  };

  it('gives the layout of a proper offer', () => {
    expect(checkGuestOffer(offer)).toMatchObject({ totalPages: 356, pfnEnd: 768, chunks: 3 });
  });

  it.each([
    ['a migration id in capitals', { migration: '0123456789ABCDEF' }, /migration id/],
    ['a short migration id', { migration: '0123' }, /migration id/],
    ['a path as a name', { guest: '../etc' }, /guest name/],
    ['pages of another size', { pageSize: 16384 }, /page size 16384/],
    ['no regions', { regions: [] }, /0 regions/],
    ['a short secret for kept memory', { keptSecret: new Uint8Array(31) }, /has 31 bytes/],
    [
      'regions off the chunk',
      { regions: [{ name: 'r', firstPfn: 1, pages: 1 }] },
      /not on a chunk/,
    ],
  ])('refuses %s', (_, change, text) => {
    expect(() => checkGuestOffer({ ...offer, ...change })).toThrow(refused('bad-message', text));
  });

  it.each(['a', '0', '_x', 'A.b-c_d', 'x'.repeat(64)])('takes the guest name %s', (name) => {
    expect(isGuestName(name)).toBe(true);
  });

  it.each(['', '.', '..', '.x', '-x', 'a/b', 'a b', 'ä', 'a\n', 'a\0', 'x'.repeat(65)])(
    'refuses the guest name %j',
    (name) => {
      expect(isGuestName(name)).toBe(false);
    },
  );
});

describe('checkAccept', () => {
  const accept = {
    dataPorts: [7071, 65535],
    secret: new Uint8Array(16),
    verifyRate: 1e9,
    journalMs: 1,
    placement: 'direct',
    epoch: 1,
    keptPages: 0,
    diskPort: 0,
  };

  it('takes a port for each lane and a secret', () => {
    checkAccept(accept, 2);
  });

  it.each([
    ['too few ports', { dataPorts: [7071] }, /1 data ports for 2 lanes/],
    ['port 0', { dataPorts: [7071, 0] }, /data port 0/],
    ['port 65536', { dataPorts: [7071, 65536] }, /data port 65536/],
    ['disk port 65536', { diskPort: 65536 }, /data port 65536/],
    ['a short secret', { secret: new Uint8Array(15) }, /15 bytes, not 16/],
    ['a negative rate', { verifyRate: -1 }, /verify rate/],
  ])('refuses %s', (_, change, text) => {
    expect(() => checkAccept({ ...accept, ...change }, 2)).toThrow(refused('bad-message', text));
  });
});
