import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  parseCutover,
  parseDecision,
  parseLimitsPatch,
  parseMigrationRequest,
  parseProfileRequest,
} from '../../lib/api/request.ts';
import { GodwitError } from '../../lib/errors.ts';

const WANTED = { guest: 'vm1', host: 'hostb', port: 7070 };

test('what was left out gets its default', () => {
  expect(parseMigrationRequest(WANTED)).toEqual({
    ...WANTED,
    policy: 'contract',
    limits: {},
    compression: 'auto',
    verify: false,
  });
});

test('everything that was given arrives', () => {
  const full = {
    guest: 'vm-1.a_B',
    host: 'fe80::1%eth0',
    port: 65535,
    policy: 'custom',
    policyModule: '/etc/godwit/mine.ts',
    limits: { maxSuspendMs: 300, timeoutMs: 60_000, prefer: 'completion', maxIters: 7 },
    bandwidth: 125e6,
    suspendBandwidth: 250e6,
    lanes: 64,
    compression: 'off',
    verify: true,
  };
  expect(parseMigrationRequest(full)).toEqual(full);
});

test.each([
  [{ guest: undefined }, 'guest'],
  [{ guest: '../vm1' }, 'guest'],
  [{ guest: '-vm1' }, 'guest'],
  [{ guest: 'x'.repeat(65) }, 'a guest name has 1 to 64 characters'],
  [{ guest: 7 }, 'guest'],
  [{ host: '' }, 'host'],
  [{ host: 'host b' }, 'host'],
  [{ host: 'x'.repeat(256) }, 'host'],
  [{ port: undefined }, 'port'],
  [{ port: 0 }, 'port is a number from 1 to 65535'],
  [{ port: 65536 }, 'port is a number from 1 to 65535'],
  [{ port: 7070.5 }, 'port is a whole number from 1 to 65535'],
  [{ port: '7070' }, 'port is a number from 1 to 65535'],
  [{ policy: 'qemu' }, 'policy is one of contract, xen, custom'],
  [{ policy: 'custom' }, 'policyModule'],
  [{ policyModule: '/etc/mine.ts' }, 'policyModule'],
  [{ policy: 'custom', policyModule: 'mine.ts' }, 'policyModule is an absolute path'],
  [{ limits: [] }, 'limits must be a JSON object'],
  [{ limits: { maxSuspend: 1 } }, 'unknown field "maxSuspend"; allowed are maxSuspendMs'],
  [{ limits: { maxSuspendMs: '300ms' } }, 'maxSuspendMs is a number'],
  [{ limits: { maxSuspendMs: 9 } }, 'limits: --max-suspend-time must be 10 ms to 1 h 00 m'],
  [{ limits: { maxSuspendMs: null } }, 'limits: --max-suspend-time cannot be taken away'],
  [{ limits: { timeoutMs: 1e12 } }, 'limits: --timeout must be 1.00 s to'],
  [{ limits: { prefer: 'both' } }, 'limits: --prefer must be workload or completion'],
  [{ limits: { hold: '02:00' } }, 'hold is cutover, a date and time with its zone'],
  [{ limits: { hold: true } }, 'hold is cutover'],
  [{ limits: { maxIters: 3 } }, '--max-iters has no meaning for the contract policy'],
  [{ policy: 'xen', limits: { maxIters: 0 } }, '--max-iters must be a whole number from 1 to'],
  [{ policy: 'xen', limits: { pauseBelowMs: 5 } }, '--pause-below has no meaning for the xen'],
  [{ bandwidth: 1000 }, 'bandwidth is a number from 1000000 to 1000000000000'],
  [{ bandwidth: null }, 'bandwidth is a number'],
  [{ lanes: 0 }, 'lanes is a number from 1 to 64'],
  [{ lanes: 65 }, 'lanes is a number from 1 to 64'],
  [{ lanes: 1.5 }, 'lanes is a whole number from 1 to 64'],
  [{ compression: true }, 'compression is one of auto, off'],
  [{ verify: 'yes' }, 'verify is true or false'],
  [{ verfiy: true }, 'unknown field "verfiy"; allowed are guest, host'],
])('%j is refused, naming the field and what is allowed', (part, message) => {
  expect(() => parseMigrationRequest({ ...WANTED, ...part })).toThrow(
    expect.objectContaining({ code: 'bad-option', message: expect.stringContaining(message) }),
  );
});

test('a change of limits: null takes one away', () => {
  const patch = { maxSuspendMs: 800, timeoutMs: null, prefer: 'completion', bandwidth: null };
  expect(parseLimitsPatch(patch)).toEqual(patch);
  expect(parseLimitsPatch({ bandwidth: 2e6 })).toEqual({ bandwidth: 2e6 });
  const caps = { bandwidth: null, suspendBandwidth: 3e6 };
  expect(parseLimitsPatch(caps)).toEqual(caps);
  for (const hold of ['cutover', '2026-11-30T02:00Z', '22:00-04:00', null])
    expect(parseLimitsPatch({ hold })).toEqual({ hold });
});

test.each([
  [{}, 'nothing to change'],
  [{ guest: 'vm2' }, 'unknown field "guest"'],
  [{ prefer: null }, 'prefer is workload or completion'],
  [{ timeoutMs: true }, 'timeoutMs is a number'],
  [{ bandwidth: 0 }, 'bandwidth is a number from 1000000'],
  [{ suspendBandwidth: 0 }, 'suspendBandwidth is a number from 1000000'],
])('the change %j is refused', (patch, message) => {
  expect(() => parseLimitsPatch(patch)).toThrow(
    expect.objectContaining({ code: 'bad-option', message: expect.stringContaining(message) }),
  );
});

test('a cutover may be forced', () => {
  expect(parseCutover({})).toEqual({ force: false });
  expect(parseCutover({ force: true })).toEqual({ force: true });
  for (const body of [{ force: 'yes' }, { froce: true }, null])
    expect(() => parseCutover(body)).toThrow(expect.objectContaining({ code: 'bad-option' }));
});

test('a decision has a choice and says who decides', () => {
  for (const by of ['ann', 'José (as root)', 'x'.repeat(64), 'DOM\\\\ann', '安娜'])
    expect(parseDecision({ choice: 'give-up', by })).toEqual({ choice: 'give-up', by });
});

test.each([
  [{ choice: 'keep' }, 'choice is keep-here or give-up'],
  [{ by: undefined }, 'by is a text that is not empty'],
  [{ by: '' }, 'by is a text that is not empty'],
  [{ by: 'x'.repeat(65) }, 'by says who decides, in at most 64 printable characters'],
  [{ by: 'ann\n2026-01-01 info forged' }, 'by says who decides'],
  [{ by: '\x1b[2J' }, 'by says who decides'],
  [{ by: '\u202eann' }, 'by says who decides'],
  [{ why: 'because' }, 'unknown field "why"'],
])('the decision %j is refused', (part, message) => {
  expect(() => parseDecision({ choice: 'keep-here', by: 'ann', ...part })).toThrow(
    expect.objectContaining({ code: 'bad-option', message: expect.stringContaining(message) }),
  );
});

const FIELDS = ['guest', 'host', 'port', 'policy', 'policyModule', 'limits', 'bandwidth'];
const MORE = ['lanes', 'compression', 'verify', 'maxSuspendMs', 'prefer', '__proto__', 'x'];

/** Bodies that are near a request: the right names, with values of any kind. */
const nearRequest = fc.oneof(
  fc.jsonValue(),
  fc.dictionary(
    fc.constantFrom(...FIELDS, ...MORE),
    fc.oneof(
      fc.jsonValue(),
      fc.constantFrom('vm1', 'hostb', 7070, 'contract', 'xen', 'custom', '/x.ts', 'auto', null),
      fc.dictionary(fc.constantFrom('maxSuspendMs', 'prefer', 'maxIters'), fc.jsonValue()),
    ),
  ),
);

test('a profile is asked for as it is, or as a rehearsal with its cap', () => {
  for (const asked of [
    { ms: 2000 },
    { ms: 2000, rehearsal: {} },
    { ms: 2000, rehearsal: { bandwidth: 50e6 } },
  ])
    expect(parseProfileRequest(asked)).toEqual(asked);
  for (const body of [
    {},
    { ms: 999 },
    { ms: 2000, rehearsal: true },
    { ms: 2000, rehearsal: { bandwidth: 1 } },
    { ms: 2000, rehearsal: { lanes: 2 } },
  ])
    expect(() => parseProfileRequest(body)).toThrow(
      expect.objectContaining({ code: 'bad-option' }),
    );
});

test('any JSON is either a request within its bounds or refused as bad-option', () => {
  let accepted = 0;
  fc.assert(
    fc.property(nearRequest, fc.boolean(), (body, whole) => {
      try {
        const parsed = parseMigrationRequest(
          whole && typeof body === 'object' && body !== null ? { ...WANTED, ...body } : body,
        );
        accepted++;
        expect(parsed.guest).toMatch(/^[A-Za-z0-9_][\w.-]{0,63}$/);
        expect(parsed.port).toBeGreaterThanOrEqual(1);
        expect(parsed.port).toBeLessThanOrEqual(65535);
        expect(parsed.policyModule !== undefined).toBe(parsed.policy === 'custom');
      } catch (error) {
        if (!(error instanceof GodwitError)) throw error;
        expect(error.code).toBe('bad-option');
      }
    }),
    { numRuns: 2000, examples: [[{}, true]] },
  );
  expect(accepted).toBeGreaterThan(0); // the example, and what is near it
});

test('any JSON is either a change or refused as bad-option', () => {
  fc.assert(
    fc.property(nearRequest, (body) => {
      try {
        expect(Object.keys(parseLimitsPatch(body)).length).toBeGreaterThan(0);
      } catch (error) {
        if (!(error instanceof GodwitError)) throw error;
        expect(error.code).toBe('bad-option');
      }
    }),
    { numRuns: 2000 },
  );
});
