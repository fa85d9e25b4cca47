import { GodwitError } from '../lib/errors.ts';
import type { PageHash } from '../lib/pages/hash.ts';
import type { DeviceState } from '../lib/wire/messages.ts';

/** Device state that a guest may have, bytes; a large QEMU guest has a few MiB. */
const MAX_DEVICE_STATE = 16 << 20;

/** Puts the device state together from its parts. */
export class StateParts {
  #state: Buffer | undefined;
  #filled = 0;
  #hash = 0n;

  /** @throws GodwitError device-state-invalid */
  add({ offset, total, hash }: DeviceState, part: Uint8Array): void {
    if (total > MAX_DEVICE_STATE)
      throw invalid(`${total} bytes announced; ${MAX_DEVICE_STATE} are allowed`);
    this.#state ??= Buffer.alloc(total);
    this.#hash = hash;
    if (total !== this.#state.length || offset !== this.#filled || part.length > total - offset)
      throw invalid(`part of ${part.length} bytes at ${offset} of ${total} does not fit`);
    this.#state.set(part, offset);
    this.#filled += part.length;
  }

  /** The whole of it. @throws GodwitError device-state-invalid */
  whole(hash: PageHash): Buffer {
    if (!this.#state || this.#filled !== this.#state.length) throw invalid('parts are missing');
    if (hash.ofLong(this.#state) !== this.#hash) throw invalid('its hash is not what was sent');
    return this.#state;
  }
}

function invalid(why: string): GodwitError {
  return new GodwitError('device-state-invalid', `device state: ${why}`);
}
