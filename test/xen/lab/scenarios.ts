import assert from 'node:assert/strict';
import { concluded, gap, moved, type Scenario, SLOW, stays } from './attempt.ts';
import { WIDE } from './bed.ts';
import { HELD } from './held.ts';
import { KILLS } from './kills.ts';
import { mustVerify } from './verify.ts';

const MOVES: readonly Scenario[] = [
  { name: 'plain', what: 'an idle guest moves', run: moved },
  { name: 'back', what: 'and back again', run: moved },
  {
    name: 'streams',
    what: 'an idle guest moves; what xl sent and what xl received pass verify-stream-v2',
    run: async (bed) => {
      await bed.boot();
      await bed.source.must('touch /tmp/capture');
      await bed.destination.must('touch /tmp/capture');
      const { source, destination } = bed;
      const move = bed.begin(WIDE, { transport: 'xl-capture' });
      assert.equal(await move.ended(), 0, `${move.said}\n${await bed.logs()}`);
      await bed.mustRunAt(destination);
      const records = [await mustVerify(source, 'sent'), await mustVerify(destination, 'received')];
      return `${gap(bed)}; ${records.join(', ')}`;
    },
  },
  {
    name: 'busy',
    what: 'a guest that writes all the time',
    run: async (bed) => {
      await bed.boot(1024);
      await bed.mustMove();
      return gap(bed);
    },
  },
  {
    name: 'command',
    what: 'agent-send guests shows it, and agent-send migrate runs xl for the user',
    run: async (bed) => {
      await bed.boot();
      const { source, destination } = bed;
      assert.match(await source.must('agent-send guests'), /^g1 +xen +96 MiB +runs$/m);
      const move = bed.beginAs(`agent-send migrate g1 ${destination.name} ${WIDE}`);
      assert.equal(await move.ended(), 0, `${move.said}\n${await bed.logs()}`);
      await bed.mustRunAt(destination);
      return gap(bed);
    },
  },
  {
    name: 'debug',
    what: 'with --debug all memory is sent twice, and no limit is promised',
    run: async (bed) => {
      await bed.boot();
      const move = bed.begin(WIDE, { command: 'xl migrate --debug' });
      const note = await concluded(bed, move, 'moves');
      assert.match(move.said, /no limit can hold/);
      return note;
    },
  },
  {
    name: 'remus',
    what: 'what is not moved but kept twice is refused by name',
    run: async (bed) => {
      await bed.boot();
      const { source } = bed;
      const move = bed.begin('', { command: 'xl remus' });
      assert.notEqual(await move.ended(), 0, move.said);
      assert.match(move.said, /cannot be had with agent-send: neither Remus/);
      await bed.mustRunAt(source);
      return gap(bed);
    },
  },
];

const LIMITS: readonly Scenario[] = [
  {
    name: 'limit',
    what: 'a limit that cannot be kept: the guest runs on where it was',
    run: (bed) =>
      stays(
        bed,
        '--max-suspend-time 150ms --abort-above 10s --timeout 20m',
        /\((suspension-limit|policy-abort)\)|agent-send show/,
      ),
  },
  {
    name: 'deny',
    what: 'the limit is over when xl has said GO: it is denied',
    run: async (bed) => {
      await bed.boot();
      const { source } = bed;
      await bed.startAgent(source, 'send', 'stop@source.before.journal-committed');
      const move = bed.begin('--max-suspend-time 90s --timeout 20m');
      await bed.standsStill(source, 'send');
      await new Promise((resolve) => setTimeout(resolve, 95_000));
      await bed.kill(source, 'agent-send', 'CONT');
      const note = await concluded(bed, move, 'stays');
      assert.match(move.said, /Resumed OK/);
      return note;
    },
  },
  {
    name: 'timeout',
    what: 'the time is over while the guest runs',
    run: (bed) =>
      stays(
        bed,
        '--max-suspend-time 120s --timeout 6s --bandwidth 6MiB/s',
        /--timeout.* \(policy-abort\)|aborted by policy/,
      ),
  },
  {
    name: 'cancel',
    what: 'cancelled while the guest runs',
    run: (bed) =>
      stays(bed, SLOW, /\(cancelled\)/, async () => {
        await bed.source.must(`agent-send cancel ${await bed.newest()}`);
      }),
  },
];

export const SCENARIOS: readonly Scenario[] = [...MOVES, ...LIMITS, ...HELD, ...KILLS];
