import type { CheckView, SidedFinding } from '../migration/check/view.ts';
import { fitsText, roundsText, spanText } from '../report/foretold-text.ts';
import { printable } from '../report/words.ts';
import { formatDuration } from '../units.ts';

const VERDICTS: Readonly<Record<SidedFinding['verdict'], string>> = {
  ok: 'ok',
  no: 'no',
  unknown: 'not known',
};

/** What to do about a finding, by its code; where the text does not say it already. */
const ADVICE: Readonly<Record<string, string>> = {
  'connect-refused': 'start agent-recv there, or look at the port',
  'connect-timeout': 'look at the firewall of the destination (control port and data ports)',
  'host-unknown': 'look at the name',
  'tls-name-mismatch': 'call the host by a name of its certificate',
  'peer-not-allowed': 'have the destination allow this host (--allow-peer)',
  'bad-version': 'bring both agents to the same version',
  'listen-failed': 'widen --data-ports there, or wait for a migration to end',
  'too-many': 'try again in a moment',
  'guest-busy': 'see list on that host',
  'guest-exists': 'end the guest of that name there',
  'guest-not-running': 'start it, or leave it',
  'memory-insufficient': 'make room there, or take another host',
  'journal-failed': 'make room on the disk of the state directory',
  'hook-failed': 'put the program of the hook there, or leave it out of the definition',
};

/** A finding a line, then the forecast. */
export function checkText(view: CheckView): string {
  const findings = view.findings.map(({ side, about, verdict, code, text }) => {
    const advice = verdict === 'ok' ? undefined : ADVICE[code];
    const words = `${about}: ${printable(text)}${advice ? ` (${code}): ${advice}` : code && ` (${code})`}`;
    return `${VERDICTS[verdict].padEnd(11)}${side.padEnd(13)}${words}\n`;
  });
  return `${findings.join('')}\n${forecastText(view)}${CONCLUSIONS[view.expected]}\n`;
}

const CONCLUSIONS: Readonly<Record<CheckView['expected'], string>> = {
  yes: 'A move is expected to succeed.',
  refused: 'A move would fail for what is said above.',
  no: 'A move would be given up; the guest would stay.',
  perhaps: 'A move may succeed.',
  unknown: 'Whether a move would succeed is not known.',
};

function forecastText({ forecast, limits }: CheckView): string {
  if (forecast === undefined) return 'forecast: not known, without a destination that measures\n';
  const { suspensionMs, totalMs, rounds, passMs, reason } = forecast;
  const suspension = `suspension ${spanText(suspensionMs)}`;
  if (forecast.verdict === 'unknown')
    return (
      `forecast: ${suspension} besides the guest's pages, one pass over its memory ${formatDuration(passMs)}\n` +
      `          ${printable(reason)}\n`
    );
  const whole = totalMs && `, whole move ${spanText(totalMs)}`;
  const made = rounds && roundsText(rounds);
  return `forecast: ${suspension}${whole ?? ''}${made ?? ''}\n          ${fitsText(forecast, limits)}\n          ${printable(reason)}\n`;
}
