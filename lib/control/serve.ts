import { checkPaths, used, usedText } from './check-config.ts';
import { type Command, type Input, type Option, print } from './cli.ts';
import { blameFile, type Configuration, configure, readConfiguration } from './configuration.ts';
import { Notifier } from './notify.ts';
import { type Daemon, untilStopped } from './signals.ts';
import { EXIT } from './view.ts';

/** A daemon as its `serve` command knows it. */
export interface Service<Settings> {
  readonly options: Readonly<Record<string, Option>>;
  /** Starts nothing. @throws GodwitError bad-option */
  parse(input: Input): Settings;
  /** Resolves when it serves. */
  start(settings: Settings): Promise<Daemon>;
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
export function serveCommand<Settings>(service: Service<Settings>): Command {
  return {
    name: 'serve',
    arguments: [],
    summary: 'Runs the daemon in the foreground; logs go to stderr, SIGTERM ends it cleanly.',
    options: { ...service.options, ...CONFIGURATION },
    async run(input) {
      const notifier = new Notifier();
      const configuration = configurationOf(service, input);
      const configured = configure(input, configuration);
      try {
        const settings = service.parse(configured);
        if (!input.flag('check-config'))
          return await untilStopped(await service.start(settings), notifier);
        checkPaths(service.options, configured);
      } catch (thrown) {
        throw blameFile(thrown, input, configuration);
      }
      print(input, used(service.options, input, configuration), usedText);
      return EXIT.completed;
    },
  };
}

function configurationOf({ options }: Service<unknown>, input: Input): Configuration {
  const file = input.option('config');
  return file === undefined ? UNCONFIGURED : readConfiguration(file, options);
}
