import { BANDWIDTH_RANGE, PROFILE_RANGE, type ProfileRequest } from '../../lib/api/request.ts';
import { type Command, type Input, print } from '../../lib/cli/cli.ts';
import type { ControlClient } from '../../lib/cli/client.ts';
import { GodwitError } from '../../lib/errors.ts';
import { EXIT } from '../../lib/exit.ts';
import type { ProfileProgress } from '../../lib/guest/profile.ts';
import type { GuestProfile } from '../../lib/precopy/profile.ts';
import { profileProgressText, profileText } from '../../lib/report/profile-text.ts';
import { formatDuration, parseBandwidth, parseDuration } from '../../lib/units.ts';
import { limitOptions } from './limit-options.ts';
import { manage } from './migrate.ts';

const DEFAULT = '10s';
/** Plain lines for logs and pipes come this often, ms. */
const LINE_MS = 1000;

export const profile: Command = {
  name: 'profile',
  arguments: ['GUEST'],
  summary: 'Shows what a guest does to its memory, without moving it. Ctrl-C ends it.',
  options: {
    for: {
      value: 'DURATION',
      help: 'how long it is watched',
      range: `${formatDuration(PROFILE_RANGE.min)} to ${formatDuration(PROFILE_RANGE.max)}`,
      otherwise: DEFAULT,
    },
    rehearse: {
      help: 'by a move that goes nowhere, as fast as the guest would be\nthen; QEMU 8.1 and later',
    },
    bandwidth: { ...limitOptions.bandwidth!, help: 'cap on a rehearsal, as for migrate' },
    last: { help: 'show the newest one that is kept, and take none' },
    socket: manage.socket,
  },
  async run(input) {
    const client = manage.client(input);
    const asked = requestOf(input);
    const [guest = ''] = input.arguments;
    const url = `/guests/${encodeURIComponent(guest)}/profile`;
    try {
      const found = input.flag('last')
        ? await client.request<GuestProfile>('GET', url)
        : await take(input, client, guest, asked, url);
      print(input, found, (it) => profileText(it, process.stdout.isTTY));
      return EXIT.completed;
    } catch (thrown) {
      if (!(thrown instanceof GodwitError) || thrown.code !== 'cancelled') throw thrown;
      process.stderr.write(`agent-send: ${thrown.message}; nothing of it is kept\n`);
      return EXIT.cancelled;
    }
  },
};

/** @throws GodwitError bad-option */
function requestOf(input: Input): ProfileRequest {
  const [duration, bandwidth] = [input.option('for'), input.option('bandwidth')];
  const rehearse = input.flag('rehearse');
  if (input.flag('last') && (duration !== undefined || rehearse))
    throw new GodwitError(
      'bad-option',
      '--last takes no profile, so --for and --rehearse say nothing',
    );
  if (bandwidth !== undefined && !rehearse)
    throw new GodwitError('bad-option', '--bandwidth is the cap on a rehearsal: --rehearse');
  const ms = parseDuration(duration ?? DEFAULT, '--for', PROFILE_RANGE);
  if (!rehearse) return { ms };
  const cap = bandwidth && parseBandwidth(bandwidth, '--bandwidth', BANDWIDTH_RANGE);
  return { ms, rehearsal: cap ? { bandwidth: cap } : {} };
}

/** The first Ctrl-C ends it and waits until nothing watches the guest; the second one does not wait. */
async function take(
  input: Input,
  client: ControlClient,
  guest: string,
  asked: ProfileRequest,
  url: string,
): Promise<GuestProfile> {
  let interrupts = 0;
  const onInterrupt = () => {
    interrupts++;
    if (interrupts > 1) process.exit(EXIT.cancelled); // the daemon ends what nobody waits for
    process.stderr.write('\nending; Ctrl-C again does not wait for it\n');
    client.request('DELETE', url).catch(() => {}); // it is over already
  };
  process.on('SIGINT', onInterrupt);
  const progress = input.json ? { show: () => {}, end: () => {} } : progressShown();
  try {
    return await client.profile(guest, asked, progress.show);
  } finally {
    progress.end();
    process.off('SIGINT', onInterrupt);
  }
}

/** On stderr: what is asked for stands alone on stdout. */
function progressShown() {
  const terminal = process.stderr.isTTY;
  let shownMs = Number.NEGATIVE_INFINITY;
  return {
    show: (progress: ProfileProgress) => {
      const text = profileProgressText(progress);
      if (terminal) process.stderr.write(`\r\x1b[K${text}`);
      else if (progress.elapsedMs - shownMs < LINE_MS) return;
      else process.stderr.write(`${text}\n`);
      shownMs = progress.elapsedMs;
    },
    end: () => {
      if (terminal) process.stderr.write('\r\x1b[K');
    },
  };
}
