import fs from 'node:fs';
import path from 'node:path';
import { MAX_BY } from '../api/request.ts';
import { ControlClient } from '../cli/client.ts';
import { asGodwitError, GodwitError } from '../errors.ts';
import type { MigrationView } from '../migration/view.ts';
import type { Choice, Dilemma } from '../ownership/decision.ts';
import type { GuestRecord } from '../ownership/guest-record.ts';
import type { Places } from './places.ts';

/** An agent that stands still does not keep Pacemaker waiting, ms. */
const ANSWER_MS = 10_000;

/**
 * How a guest stands in migrations of this host, by its record and the agent that has it open:
 *
 * - free: none is open: whatever its hypervisor says holds.
 * - leaving: it is here, and any trouble leaves it here.
 * - given: it stands here, and another host may run it.
 * - arriving: what is here of it is incomplete.
 * - waiting: it is here and complete, and runs when its source says so.
 * - unknown: a migration is open, and its agent does not answer.
 */
export type Place =
  | { readonly what: 'free' }
  | { readonly what: 'leaving' | 'given' | 'arriving' | 'waiting'; readonly id: string }
  | { readonly what: 'unknown'; readonly why: string };

const FREE: Place = { what: 'free' };

/** What the agents of this host are asked and told about a guest. */
export class GuestPlace {
  readonly send: ControlClient;
  readonly #recv: ControlClient;
  readonly #guest: string;
  readonly #hostDir: string;

  constructor(guest: string, places: { readonly send: Places; readonly recv: Places }) {
    this.#guest = guest;
    this.#hostDir = places.send.hostDir;
    this.send = new ControlClient(places.send.socket, 'agent-send', ANSWER_MS);
    this.#recv = new ControlClient(places.recv.socket, 'agent-recv', ANSWER_MS);
  }

  async look(): Promise<Place> {
    const record = this.#record();
    if (record === undefined || record.rest) return FREE;
    const { migration: id, side } = record;
    try {
      const { ownership, phase } = await this.#of(side).request<MigrationView>(
        'GET',
        `/migrations/${id}`,
      );
      return phase === 'ended' ? FREE : standing(id, side, ownership);
    } catch (thrown) {
      const { code, message: why } = asGodwitError(thrown);
      // Claimed and never begun: its agent lets go of it.
      return code === 'unknown-migration' ? FREE : { what: 'unknown', why };
    }
  }

  /** One that ends by itself, or cannot be cancelled any more, is looked at again. */
  async cancel(id: string, side: GuestRecord['side']): Promise<void> {
    await harmless(this.#of(side).request('POST', `/migrations/${id}/cancel`));
  }

  /** What a copy that stands here is to be answered now that its other host was fenced. */
  async fenced(id: string, side: GuestRecord['side']): Promise<Dilemma['fenced']> {
    return (await this.#of(side).request<Dilemma>('GET', `/migrations/${id}/resolve`)).fenced;
  }

  /** @param why Pacemaker's order stands for no other host having the guest */
  async resolve(id: string, side: GuestRecord['side'], choice: Choice, why: string): Promise<void> {
    const decision = { choice, by: `Pacemaker (${why})`.slice(0, MAX_BY) };
    await harmless(this.#of(side).request('POST', `/migrations/${id}/resolve`, decision));
  }

  #of(side: GuestRecord['side']): ControlClient {
    return side === 'source' ? this.send : this.#recv;
  }

  /** @throws GodwitError journal-invalid */
  #record(): GuestRecord | undefined {
    const file = path.join(this.#hostDir, `${this.#guest}.json`);
    try {
      return JSON.parse(fs.readFileSync(file, 'utf8'));
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new GodwitError('journal-invalid', `${file}: ${(cause as Error).message}`, { cause });
    }
  }
}

function standing(id: string, side: GuestRecord['side'], ownership: string | undefined): Place {
  switch (ownership) {
    case 'committed':
      return { what: 'given', id };
    case 'prepared':
      return { what: 'waiting', id };
    case undefined:
    case 'precopy':
    case 'suspended':
    case 'receiving':
      return { what: side === 'source' ? 'leaving' : 'arriving', id };
    default:
      return FREE;
  }
}

async function harmless(order: Promise<unknown>): Promise<void> {
  try {
    await order;
  } catch (thrown) {
    if (asGodwitError(thrown).code !== 'too-late') throw thrown;
  }
}
