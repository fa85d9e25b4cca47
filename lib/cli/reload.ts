import type { Notifier } from '../daemon/notify.ts';
import type { Daemon } from '../daemon/signals.ts';
import { asGodwitError } from '../errors.ts';
import { log, setLogging } from '../log.ts';
import { used } from './check-config.ts';
import type { Input } from './cli.ts';
import {
  blameFile,
  type Configuration,
  configure,
  mixed,
  readConfiguration,
} from './configuration.ts';
import type { Service } from './serve.ts';
import type { CommonOptions } from './serve-options.ts';
import { requireSound } from './sound.ts';

/** Takes the configuration anew into a daemon that serves. */
export class Reload<Settings extends CommonOptions> {
  readonly #service: Service<Settings>;
  readonly #input: Input;
  /** What holds now. */
  #current: Configuration;

  constructor(service: Service<Settings>, input: Input, configuration: Configuration) {
    this.#service = service;
    this.#input = input;
    this.#current = configuration;
  }

  /** Whatever is wrong with it, the daemon goes on as before, and that is said. */
  into(daemon: Daemon<Settings>, notifier: Pick<Notifier, 'status'>): void {
    try {
      const { next, settings, later } = this.#read();
      daemon.reload(settings);
      const changed = this.#changes(this.#current, next);
      log('info', `reloaded: ${changed.join(', ') || 'options as before, files read again'}`);
      for (const name of later)
        log('warn', `${name} is not taken before the next start: it goes on as it was`);
      setLogging(settings.logging); // what was said about it, by the old
      this.#current = next;
      notifier.status(daemon.status);
    } catch (thrown) {
      const { message } = asGodwitError(thrown);
      log('error', `not reloaded, it goes on as before: ${message}`);
      notifier.status(`${daemon.status}; not reloaded: ${message}`);
    }
  }

  /** @throws GodwitError bad-option */
  #read(): { next: Configuration; settings: Settings; later: readonly string[] } {
    const { options, reloads } = this.#service;
    const file = this.#input.option('config');
    const anew = file === undefined ? this.#current : readConfiguration(file, options);
    const next = mixed(anew, this.#current, reloads);
    try {
      const settings = this.#service.parse(configure(this.#input, next));
      // Certificates that work are not given up for some that do not.
      requireSound(settings.security.credentials, Date.now());
      return { next, settings, later: this.#changes(next, anew) };
    } catch (thrown) {
      throw blameFile(thrown, this.#input, next);
    }
  }

  /** Names of the options that the two have different values for. */
  #changes(before: Configuration, after: Configuration): readonly string[] {
    const { options } = this.#service;
    const [old, anew] = [before, after].map((one) => used(options, this.#input, one));
    return anew!
      .filter(({ value }, i) => value !== old![i]!.value)
      .map(({ option }) => `--${option}`);
  }
}
