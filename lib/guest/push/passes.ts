/** The passes that a hypervisor makes over its memory, as it tells of them. */
export class Passes {
  readonly #pendingPages: () => Promise<number>;
  #current = { number: 1, dirtyPages: 0 };
  /** Its last word about passes; how many pages are pending is being asked. */
  #latest = 1;
  #asking = false;
  #listener: (() => void) | undefined;

  /** @param pendingPages asks how many pages the latest pass has still to send */
  constructor(pendingPages: () => Promise<number>) {
    this.#pendingPages = pendingPages;
  }

  /** The latest whose pages are known. */
  get current(): { readonly number: number; readonly dirtyPages: number } {
    return this.#current;
  }

  /** Called when another one is the current one. */
  listen(listener: () => void): void {
    this.#listener = listener;
  }

  /**
   * Another one begins. Those of an idle guest come faster than anybody could ask about them.
   * @param answers the hypervisor can be asked
   */
  async begins(number: number, answers: boolean): Promise<void> {
    this.#latest = number;
    if (this.#asking || !answers) return;
    this.#asking = true;
    try {
      const dirtyPages = await this.#pendingPages();
      this.#current = { number: this.#latest, dirtyPages };
      this.#listener?.();
    } catch {
      // the hypervisor is gone, which is told elsewhere
    } finally {
      this.#asking = false;
    }
  }
}
