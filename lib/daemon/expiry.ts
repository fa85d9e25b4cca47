import { log } from '../log.ts';
import { type Expiry, expiriesOf, troublesOf } from '../wire/certificates.ts';
import type { Credentials } from '../wire/credentials.ts';

const DAY_MS = 86_400_000;
/** Time to renew a certificate in peace. */
const WARN_DAYS = 30;

/** Says once a day what is wrong with the agent's certificates, or will be within 30 days. */
export class ExpiryWatch {
  #credentials: Credentials | undefined;
  readonly #timer: NodeJS.Timeout;

  constructor(credentials: Credentials | undefined) {
    this.#credentials = credentials;
    this.#look();
    this.#timer = setInterval(() => this.#look(), DAY_MS).unref();
  }

  /** Others from here on. */
  watch(credentials: Credentials | undefined): void {
    this.#credentials = credentials;
    this.#look();
  }

  get expiries(): readonly Expiry[] {
    return this.#credentials === undefined ? [] : expiriesOf(this.#credentials);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    if (this.#credentials === undefined) return;
    const now = Date.now();
    for (const trouble of troublesOf(this.#credentials, now))
      log('error', `${trouble}: nobody can be reached with it`);
    for (const { option, notAfter } of expiriesOf(this.#credentials)) {
      const days = Math.floor((notAfter - now) / DAY_MS);
      if (days < 0 || days >= WARN_DAYS) continue;
      const when = `in ${days === 0 ? 'less than a day' : `${days} day${days === 1 ? '' : 's'}`}`;
      log(
        'warn',
        `${option} expires ${when}, ${new Date(notAfter).toISOString()}; renew it, then reload`,
      );
    }
  }
}
