import { GodwitError } from '../errors.ts';
import { log } from '../log.ts';
import { readCredentials, type Security } from '../wire/credentials.ts';
import type { Input, Option } from './cli.ts';

/** How both agents are told to protect their connections. */
export const securityOptions: Readonly<Record<string, Option>> = {
  'tls-cert': { value: 'FILE', help: "this host's certificate (PEM); see agent-recv keygen" },
  'tls-key': { value: 'FILE', help: 'its key, readable by nobody else' },
  'tls-ca': { value: 'FILE', help: "the CA that signed the other hosts' certificates" },
  insecure: {
    help: 'without TLS, reach other hosts all the same:\nwhoever can connect is believed',
  },
};

/** @throws GodwitError bad-option */
export function securityOf({ option, flag }: Input): Security {
  const files = { cert: option('tls-cert'), key: option('tls-key'), ca: option('tls-ca') };
  const given = Object.values(files).filter((file) => file !== undefined);
  const insecure = flag('insecure');
  if (given.length === 0) return { credentials: undefined, insecure };
  const { cert, key, ca } = files;
  if (cert === undefined || key === undefined || ca === undefined)
    throw new GodwitError('bad-option', '--tls-cert, --tls-key and --tls-ca go together');
  if (insecure) throw new GodwitError('bad-option', '--insecure is for connections without TLS');
  return { credentials: readCredentials({ cert, key, ca }), insecure };
}

/** Says loudly what an agent without TLS is open to. */
export function warnOfInsecurity({ credentials, insecure }: Security): void {
  if (credentials || !insecure) return;
  log(
    'warn',
    'INSECURE: connections are neither encrypted nor authenticated; guest memory can be read, and guests can be put on this host, by whoever reaches it',
  );
}
