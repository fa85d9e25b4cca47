import { handleFaults } from '../daemon/background.ts';
import { Notifier } from '../daemon/notify.ts';
import { type Daemon, Hangups, untilStopped } from '../daemon/signals.ts';
import { EXIT } from '../exit.ts';
import { setLogging } from '../log.ts';
import { checkPaths, used, usedText } from './check-config.ts';
import { type Command, type Input, type Option, print } from './cli.ts';
import { blameFile, type Configuration, configure, readConfiguration } from './configuration.ts';
import { Reload } from './reload.ts';
import type { CommonOptions } from './serve-options.ts';
import { requirePlaces, requireSound } from './sound.ts';
import { startError } from './start-error.ts';

/** A daemon as its `serve` command knows it. */
export interface Service<Settings> {
  readonly options: Readonly<Record<string, Option>>;
  /** Those that it takes anew while it runs. */
  readonly reloads: readonly string[];
  /** Starts nothing. @throws GodwitError bad-option */
  parse(input: Input): Settings;
  /** Whether `start` would succeed and the daemon be of use, as far as looking shows. @throws GodwitError */
  check(settings: Settings): Promise<void>;
  /** Resolves when it serves. */
  start(settings: Settings): Promise<Daemon<Settings>>;
}

const CONFIGURATION: Readonly<Record<string, Option>> = {
  config: {
    value: 'FILE',
    help: 'JSON object with options by their names without dashes;\nthe command line wins over it',
    otherwise: 'none',
  },
  'check-config': { help: 'check and show what would be used; start nothing' },
};

const UNCONFIGURED: Configuration = { file: '', values: new Map() };

/** `serve`: a daemon that is configured by a file and flags, and told to a service manager. */
export function serveCommand<Settings extends CommonOptions>(service: Service<Settings>): Command {
  return {
    name: 'serve',
    arguments: [],
    summary:
      'Runs the daemon in the foreground; logs go to stderr, SIGTERM ends it cleanly, SIGHUP reloads.',
    options: { ...service.options, ...CONFIGURATION },
    async run(input) {
      const notifier = new Notifier();
      const configuration = configurationOf(service, input);
      const configured = configure(input, configuration);
      try {
        const settings = service.parse(configured);
        if (!input.flag('check-config')) {
          const reload = new Reload(service, input, configuration);
          return await serve(service, settings, notifier, reload);
        }
        checkPaths(service.options, configured);
        await check(service, settings);
      } catch (thrown) {
        throw blameFile(thrown, input, configuration);
      }
      print(input, used(service.options, input, configuration), usedText);
      return EXIT.completed;
    },
  };
}

/** Whatever it finds, no start mends. */
async function check<Settings extends CommonOptions>(
  service: Service<Settings>,
  settings: Settings,
): Promise<void> {
  requireSound(settings.security.credentials, Date.now());
  requirePlaces(settings);
  await service.check(settings).catch((thrown) => {
    throw startError(thrown);
  });
}

async function serve<Settings extends CommonOptions>(
  service: Service<Settings>,
  settings: Settings,
  notifier: Notifier,
  reload: Reload<Settings>,
): Promise<number> {
  const hangups = new Hangups();
  const fault = handleFaults();
  setLogging(settings.logging);
  const starting = service.start(settings).catch((thrown) => {
    throw startError(thrown);
  });
  const daemon = await Promise.race([starting, fault]);
  if (daemon === undefined) return process.exit(EXIT.internal); // what has begun, the journal has
  hangups.listen(() => reload.into(daemon, notifier));
  return untilStopped(daemon, notifier, fault).finally(() => hangups.ignore());
}

function configurationOf({ options }: Service<unknown>, input: Input): Configuration {
  const file = input.option('config');
  return file === undefined ? UNCONFIGURED : readConfiguration(file, options);
}
