import fs from 'node:fs';
import path from 'node:path';
import { MAX_XML } from '../../lib/api/request.ts';
import { type Command, type Input, type Option, print } from '../../lib/cli/cli.ts';
import { foretoldRecordsText, guestsText, trackRecordsText } from '../../lib/cli/listing.ts';
import { Manage } from '../../lib/cli/manage.ts';
import { EXIT_OF } from '../../lib/cli/outcome.ts';
import { localUser } from '../../lib/cli/user.ts';
import { GodwitError } from '../../lib/errors.ts';
import { EXIT } from '../../lib/exit.ts';
import { GUEST_NAME_RULE, isGuestName } from '../../lib/guest-name.ts';
import type {
  GuestView,
  LimitsPatch,
  MigrationRequest,
  MigrationView,
} from '../../lib/migration/view.ts';
import { holdAt } from '../../lib/precopy/hold.ts';
import { policyLimits } from '../../lib/precopy/limits.ts';
import type { ForetoldRecord, TrackRecord } from '../../lib/precopy/track-record.ts';
import { formatDuration, parseCount } from '../../lib/units.ts';
import { MAX_LANES } from '../../lib/wire/handshake.ts';
import { conclude, follow } from './follow.ts';
import { limitOptions, patchOf } from './limit-options.ts';
import { runXl } from './run-xl.ts';
import { VIRSH_OPTIONS } from './virsh-options.ts';

export const manage = new Manage('agent-send');

const DEFAULT_PORT = 7070;

/** What is wanted of a move, made or only checked. */
export const requestOptions: Readonly<Record<string, Option>> = {
  ...limitOptions,
  policy: { value: 'contract|xen|custom', help: 'who decides', otherwise: 'contract' },
  'policy-module': {
    value: 'FILE.ts',
    help: 'policy custom: ES module that exports policy(stats, limits)',
  },
  lanes: {
    value: 'N',
    help: 'data connections',
    range: `1 to ${MAX_LANES}`,
    otherwise: "the daemon's",
  },
  'no-compression': { help: 'send pages as they are, however slow the link' },
  verify: { help: 're-read all destination memory while the guest is suspended' },
  persistent: { help: 'domain of libvirt: define it at its destination' },
  'undefine-source': {
    help: 'domain of libvirt: do not keep it defined here once it has\nmoved',
  },
  'copy-storage-all': {
    help: 'domain of libvirt: copy its disks, which the hosts do not\nshare, and make images that are missing there',
  },
  'copy-storage-inc': {
    help: 'domain of libvirt: the same, without what is in backing\nfiles, which are there already',
  },
};

/** What is wanted of one guest alone. */
export const guestOptions: Readonly<Record<string, Option>> = {
  'dest-xml': {
    value: 'FILE',
    help: 'domain of libvirt: its XML at its destination, which may\ndiffer from its own in what the guest does not see',
  },
  'dest-name': { value: 'NAME', help: 'domain of libvirt: its name at its destination' },
};

export const migrate: Command = {
  name: 'migrate',
  arguments: ['GUEST', 'HOST[:PORT]'],
  summary: 'Moves a running guest to another host and shows how it goes.',
  options: {
    ...requestOptions,
    ...guestOptions,
    detach: { help: 'return when the migration has begun' },
    socket: manage.socket,
  },
  foreign: VIRSH_OPTIONS,
  async run(input) {
    const client = manage.client(input);
    const request = { ...requestOf(input), by: localUser() };
    const started = await client
      .request<MigrationView>('POST', '/migrations', request)
      .catch((error: Error) => {
        // Which guests are xl's is known to the daemon; what runs xl is the user.
        if (error instanceof GodwitError && error.code === 'moved-by-xl')
          return runXl(input, client);
        throw error;
      });
    if (input.flag('detach')) {
      print(input, started, ({ id }) => `${id}\n`);
      return EXIT.completed;
    }
    const ended = await follow(input, client, started.id);
    await conclude(input, client, ended);
    return EXIT_OF[ended.outcome!];
  },
};

export const guests: Command = {
  name: 'guests',
  arguments: [],
  summary: 'Lists the guests of this host.',
  options: { socket: manage.socket },
  async run(input) {
    const answer = await manage.client(input).request<{ guests: GuestView[] }>('GET', '/guests');
    print(input, answer, ({ guests }) => guestsText(guests));
    return EXIT.completed;
  },
};

interface Calibration {
  readonly records: readonly TrackRecord[];
  readonly foretold: readonly ForetoldRecord[];
}

export const calibration: Command = {
  name: 'calibration',
  arguments: [],
  summary: 'Shows how good forecasts have been, of suspensions and before moves, by destination.',
  options: { socket: manage.socket },
  async run(input) {
    const client = manage.client(input);
    const answer = await client.request<Calibration>('GET', '/calibration');
    print(
      input,
      answer,
      ({ records, foretold }) => trackRecordsText(records) + foretoldRecordsText(foretold),
    );
    return EXIT.completed;
  },
};

/** @throws GodwitError bad-option before anything is started */
export function requestOf(input: Input): MigrationRequest {
  const [guest, target] = input.arguments as [string, string];
  return { guest, ...addressOf(target), ...termsOf(input), ...domainOf(input) };
}

/** @throws GodwitError bad-option */
function domainOf({ option }: Input): Pick<MigrationRequest, 'destXml' | 'destName'> {
  const [file, destName] = [option('dest-xml'), option('dest-name')];
  if (destName !== undefined && !isGuestName(destName))
    throw new GodwitError('bad-option', `--dest-name: ${GUEST_NAME_RULE}`);
  return {
    ...(file === undefined ? {} : { destXml: readXml(file) }),
    ...(destName === undefined ? {} : { destName }),
  };
}

function readXml(file: string): string {
  try {
    const xml = fs.readFileSync(file, 'utf8');
    if (xml.trim() !== '' && xml.length <= MAX_XML) return xml;
  } catch (cause) {
    const { message } = cause as Error;
    throw new GodwitError('bad-option', `--dest-xml cannot be read: ${message}`, { cause });
  }
  throw new GodwitError('bad-option', `--dest-xml has 1 to ${MAX_XML} characters of XML: ${file}`);
}

/** Everything that is wanted of a move, whatever is moved and where to. @throws GodwitError bad-option */
export function termsOf(
  input: Input,
): Omit<MigrationRequest, 'guest' | 'host' | 'port' | 'by' | 'destXml' | 'destName'> {
  const { option } = input;
  const module = option('policy-module');
  const policy = policyOf(option('policy') ?? (module === undefined ? 'contract' : 'custom'));
  if ((module === undefined) !== (policy !== 'custom'))
    throw new GodwitError(
      'bad-option',
      '--policy-module goes with --policy custom, and the other way round',
    );
  const patch = patchOf(input);
  const { bandwidth: _, suspendBandwidth: __, ...given } = patch;
  policyLimits(policy, given); // refuses what this policy cannot do without, too
  const { bandwidth, suspendBandwidth, ...limits } = withoutNulls(patch);
  checkInTime(limits);
  const lanes = option('lanes');
  return {
    policy,
    ...(module === undefined ? {} : { policyModule: path.resolve(module) }),
    limits,
    ...(bandwidth === undefined ? {} : { bandwidth }),
    ...(suspendBandwidth === undefined ? {} : { suspendBandwidth }),
    ...(lanes === undefined
      ? {}
      : { lanes: parseCount(lanes, '--lanes', { min: 1, max: MAX_LANES }) }),
    compression: input.flag('no-compression') ? 'off' : 'auto',
    verify: input.flag('verify'),
    ...(input.flag('persistent') ? { persistent: true } : {}),
    ...(input.flag('undefine-source') ? { undefineSource: true } : {}),
    ...storageOf(input),
  };
}

/** @throws GodwitError bad-option */
function storageOf({ flag }: Input): Pick<MigrationRequest, 'copyStorage'> {
  const [all, inc] = [flag('copy-storage-all'), flag('copy-storage-inc')];
  if (all && inc)
    throw new GodwitError(
      'bad-option',
      'disks are copied by --copy-storage-all or --copy-storage-inc',
    );
  return all || inc ? { copyStorage: all ? 'all' : 'inc' } : {};
}

/** A move that is given up before it may end is not begun. @throws GodwitError bad-option */
function checkInTime({ hold, timeoutMs }: MigrationRequest['limits']): void {
  if (hold === undefined || timeoutMs === undefined) return;
  const { opensMs } = holdAt(hold, Date.now());
  if (opensMs <= timeoutMs) return;
  const [given, comes] = [timeoutMs, opensMs].map(formatDuration);
  throw new GodwitError(
    'bad-option',
    `--timeout ${given} gives the move up before its time comes in ${comes}`,
  );
}

/** @throws GodwitError bad-option */
export function policyOf(name: string): MigrationRequest['policy'] {
  if (name === 'contract' || name === 'xen' || name === 'custom') return name;
  throw new GodwitError('bad-option', `--policy is contract, xen or custom, not "${name}"`);
}

/** HOST, HOST:PORT, [IPV6]:PORT. @throws GodwitError bad-option */
export function addressOf(target: string): { host: string; port: number } {
  const match = /^(?:\[([0-9A-Fa-f:.%\w]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(target);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3] ?? DEFAULT_PORT);
  if (host === undefined || port < 1 || port > 65535)
    throw new GodwitError(
      'bad-option',
      `HOST[:PORT] is a name, an IPv4 address or an IPv6 address in brackets, and a port from 1 to 65535, not "${target}"`,
    );
  return { host, port };
}

/** A limit that can be "none" is none when it is not given. */
function withoutNulls(patch: LimitsPatch) {
  return Object.fromEntries(Object.entries(patch).filter(([, value]) => value !== null)) as Partial<
    MigrationRequest['limits']
  > & { bandwidth?: number; suspendBandwidth?: number };
}
