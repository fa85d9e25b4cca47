import { spawn } from 'node:child_process';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Input } from '../../lib/cli/cli.ts';
import type { ControlClient } from '../../lib/cli/client.ts';
import { GodwitError } from '../../lib/errors.ts';
import { lastLines } from '../../lib/guest/last-lines.ts';
import type { MigrationView } from '../../lib/migration/view.ts';
import { requestOptions } from './migrate.ts';

const LOOK_MS = 100;
/** What xl says is kept as far as its last words may be wanted. */
const MOST_SAID = 64 << 10;
const LAST_WORDS = 4;

/**
 * Runs the `xl migrate` of a domain for the user, who has typed the same options: xl starts the migration
 * by `agent-send xl`.
 * @returns that migration, once it has begun @throws GodwitError hypervisor-failed with xl's last words
 */
export async function runXl(input: Input, client: ControlClient): Promise<MigrationView> {
  const [guest, target] = input.arguments as [string, string];
  const known = new Set((await migrationsOf(client, guest)).map(({ id }) => id));
  const here = path.join(import.meta.dirname, '..');
  const words = [path.join(here, 'agent-send'), 'xl', ...givenOptions(input)];
  const xl = spawn('xl', ['migrate', '-s', words.map(quoted).join(' '), guest, target], {
    detached: true, // an interrupt of the terminal is for the migration, and xl hears of it by that
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { LIBXL_SAVE_HELPER: path.join(here, 'agent-send-helper'), ...process.env },
  });
  let said = '';
  let ended: string | undefined;
  xl.stderr!.on('data', (text) => {
    said = `${said}${text}`.slice(-MOST_SAID);
  });
  xl.once('error', ({ message }) => {
    ended = `cannot be started: ${message}`;
  });
  xl.once('close', (code) => {
    ended ??= `has ended with ${code}: ${lastLines(said, LAST_WORDS)}`;
  });
  for (;;) {
    const over = ended; // looked at before: a migration that was quick is in the list by then
    const begun = (await migrationsOf(client, guest)).find(({ id }) => !known.has(id));
    if (begun !== undefined) return begun;
    if (over !== undefined) throw new GodwitError('hypervisor-failed', `xl migrate ${over}`);
    await sleep(LOOK_MS);
  }
}

async function migrationsOf(client: ControlClient, guest: string): Promise<MigrationView[]> {
  const { migrations } = await client.request<{ migrations: MigrationView[] }>(
    'GET',
    '/migrations',
  );
  return migrations.filter((one) => one.guest === guest);
}

/** The words that say the same again. */
function givenOptions(input: Input): string[] {
  const given = Object.entries(requestOptions).flatMap(([name, { value }]) => {
    if (value === undefined) return input.flag(name) ? [`--${name}`] : [];
    const text = input.option(name);
    return text === undefined ? [] : [`--${name}`, text];
  });
  const socket = input.option('socket');
  return socket === undefined ? given : [...given, '--socket', path.resolve(socket)];
}

/** For the shell that xl gives it to. */
function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
