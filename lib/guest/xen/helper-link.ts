import { readdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TransportClient } from './transport-protocol.ts';
import { transportRuns } from './xl-processes.ts';

/** `agent-send xl` listens once xl has told it of its domain: a loaded machine gets more than that takes, ms. */
const LINK_LIMIT_MS = 20_000;
const POLL_MS = 50;

/** What a save helper and the `agent-send xl` of the same xl have to say to each other. */
export class HelperLink {
  readonly #client: TransportClient;
  #isOpen = true;

  private constructor(client: TransportClient) {
    this.#client = client;
    client.onClose(() => {
      this.#isOpen = false;
    });
  }

  /**
   * To the `agent-send xl` that an xl has started; undefined when it has started none, or that one does
   * not listen in time: then the helper is as Xen's own.
   * @param guestDir where the transports of guests listen
   */
  static async find(xl: number, guestDir: string): Promise<HelperLink | undefined> {
    const until = performance.now() + LINK_LIMIT_MS;
    while (transportRuns(xl) && performance.now() < until) {
      for (const name of namesIn(guestDir)) {
        const client = await TransportClient.connect(path.join(guestDir, name)).catch(() => {});
        if (client?.greeted.xl.pid !== xl) {
          client?.close();
          continue;
        }
        await client.execute('helper');
        return new HelperLink(client);
      }
      await sleep(POLL_MS);
    }
    return undefined;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** A round has begun. @param pages that libxc found dirty */
  round(round: number, pages: number): void {
    this.#tell('round', { round, pages });
  }

  /** The rounds are over, so many: libxl is to be told to suspend the guest. */
  asks(rounds: number): void {
    this.#tell('asks', { round: rounds });
  }

  /** The guest was suspended. */
  stands(): void {
    this.#tell('stands', {});
  }

  onSuspend(listener: () => void): void {
    this.#client.on('SUSPEND', listener);
  }

  onLost(listener: () => void): void {
    this.#client.onClose(listener);
  }

  /** Nothing more is to be said. */
  close(): void {
    this.#client.close();
  }

  #tell(command: string, given: object): void {
    this.#client.execute(command, given).catch(() => {}); // lost: onLost
  }
}

function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir).filter((name) => name.endsWith('.xl'));
  } catch {
    return []; // none has moved yet
  }
}
