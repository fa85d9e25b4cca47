import fs from 'node:fs';
import path from 'node:path';
import { GodwitError } from '../../errors.ts';
import { isGuestName } from '../../guest-name.ts';
import type { BootProcess } from '../handle.ts';

/** A migration capability of QEMU's, and whether it is on. */
export interface Capability {
  readonly capability: string;
  readonly state: boolean;
}

/** What a source QEMU is set to. */
export interface Settings {
  readonly capabilities: readonly Capability[];
  readonly parameters: {
    readonly 'downtime-limit': number;
    readonly 'max-bandwidth': number;
    readonly 'tls-creds'?: string;
  };
}

/** The settings of one QEMU from before a migration changed them. */
export interface Kept {
  readonly process: BootProcess;
  /** Its monitor. */
  readonly socket: string;
  readonly settings: Settings;
}

/**
 * What source QEMUs were set to before migrations changed it, a file each for as long as it is
 * changed: an agent that dies in between leaves it for its next run. The end of the host is the end of
 * its QEMUs, so no file has to outlast a power cut.
 */
export class KeptSettings {
  readonly #dir: string;

  constructor(stateDir: string) {
    this.#dir = path.join(stateDir, 'qemu-settings');
  }

  /** Guests of which some are kept. */
  guests(): readonly string[] {
    if (!fs.existsSync(this.#dir)) return [];
    const names = fs.readdirSync(this.#dir).filter((name) => name.endsWith('.json'));
    return names.map((name) => name.slice(0, -'.json'.length)).filter(isGuestName);
  }

  /** Undefined when none are kept, or nobody can read them any more: then they are as they are. */
  of(guest: string): Kept | undefined {
    try {
      return JSON.parse(fs.readFileSync(this.#file(guest), 'utf8'));
    } catch {
      return undefined;
    }
  }

  /** @throws GodwitError journal-failed: nothing may be changed that could not be undone */
  keep(guest: string, kept: Kept): void {
    const file = this.#file(guest);
    try {
      if (!fs.existsSync(this.#dir)) fs.mkdirSync(this.#dir, { mode: 0o700 });
      fs.writeFileSync(`${file}.new`, JSON.stringify(kept), { mode: 0o600 });
      fs.renameSync(`${file}.new`, file);
    } catch (cause) {
      const text = `QEMU's settings cannot be kept in ${file}: ${(cause as Error).message}`;
      throw new GodwitError('journal-failed', text, { cause });
    }
  }

  /** They hold again, or their QEMU has ended. */
  forget(guest: string): void {
    fs.rmSync(this.#file(guest), { force: true });
  }

  #file(guest: string): string {
    return path.join(this.#dir, `${guest}.json`);
  }
}
