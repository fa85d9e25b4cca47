import type { GuestView } from '../../migration/view.ts';
import type { GuestProfile } from '../../precopy/profile.ts';
import { profileProgressText } from '../../report/profile-text.ts';
import { formatSize } from '../../units.ts';
import { ask } from './api.ts';
import { make, write } from './part.ts';
import { profileShown, takeProfile } from './profile.ts';

/** A profile that somebody waits for at the page, ms. */
const PROFILE_MS = 10_000;

/** A guest: what it is, and when somebody wants to see that, its profile. */
export class GuestItem {
  readonly element = document.createElement('li');
  readonly #name: string;
  readonly #onChange: () => void;
  readonly #about = make('span', 'quiet');
  readonly #profile = make('div', 'profile');
  readonly #button = make('button', '') as HTMLButtonElement;
  readonly #said = make('p', 'quiet');
  #isTaking = false;

  /** @param onChange the guest will look otherwise from now on */
  constructor(name: string, onChange: () => void) {
    this.#name = name;
    this.#onChange = onChange;
    const details = document.createElement('details');
    const summary = document.createElement('summary');
    const shown = make('b', '');
    write(shown, name);
    summary.append(shown, ' ', this.#about);
    this.#button.type = 'button';
    this.#said.setAttribute('role', 'status');
    details.append(summary, this.#profile, this.#button, this.#said);
    details.addEventListener('toggle', () => details.open && this.#last());
    this.#button.addEventListener('click', () => (this.#isTaking ? this.#end() : this.#take()));
    this.element.append(details);
    this.#label();
  }

  /** As it is now. */
  show(guest: GuestView): void {
    const state = 'state' in guest ? guest.state : guest.trouble;
    const size = 'state' in guest ? `, ${formatSize(guest.memoryBytes)}` : '';
    write(this.#about, `${guest.hypervisor}${size}: ${state}`);
    this.#button.hidden = !this.#isTaking && state !== 'running';
  }

  #label(): void {
    const what = this.#isTaking ? 'End the profile' : 'Take a profile';
    write(this.#button, what);
    this.#button.setAttribute('aria-label', `${what} of ${this.#name}`);
  }

  get #path(): string {
    return `v1/guests/${encodeURIComponent(this.#name)}/profile`;
  }

  /** The newest one that is kept. */
  async #last(): Promise<void> {
    try {
      this.#profile.replaceChildren(...profileShown(await ask<GuestProfile>('GET', this.#path)));
    } catch (error) {
      const { name, message } = error as Error;
      write(this.#profile, name === 'unknown-profile' ? 'No profile is kept.' : message);
    }
  }

  async #take(): Promise<void> {
    this.#isTaking = true;
    this.#label();
    this.#onChange();
    write(this.#said, 'The guest is watched; it runs on.');
    try {
      const profile = await takeProfile(this.#path, PROFILE_MS, (progress) =>
        write(this.#profile, profileProgressText(progress)),
      );
      this.#profile.replaceChildren(...profileShown(profile));
      write(this.#said, '');
    } catch (error) {
      write(this.#said, (error as Error).message);
      await this.#last();
    }
    this.#isTaking = false;
    this.#label();
    this.#onChange();
  }

  /** What was waited for tells how that went. */
  #end(): void {
    ask('DELETE', this.#path).catch(() => {});
  }
}
