import { expect, test, vi } from 'vitest';
import { log } from '../../lib/control/log.ts';

function logged(...args: Parameters<typeof log>): string {
  const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  try {
    log(...args);
    return write.mock.calls.map(([text]) => String(text)).join('');
  } finally {
    write.mockRestore();
  }
}

test('a line has its time, its level and what it is about', () => {
  expect(logged('warn', 'the peer is silent', '4f2a vm1')).toMatch(
    /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warn \[4f2a vm1\] the peer is silent\n$/,
  );
});

test('words from outside can neither forge a line nor drive a terminal', () => {
  const text = logged('info', 'abort: x\n2026-01-01 error forged\r\x1b[2J\x9b1m', 'vm\n1');
  expect(text.match(/\n/g)).toHaveLength(1);
  expect(text.slice(0, -1)).not.toMatch(/\p{Cc}/u);
});
