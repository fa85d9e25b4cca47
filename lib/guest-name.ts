/** Guest names become part of file names and travel in GuestOffer (proto/WIRE.md has the same rule). */
const GUEST_NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/;
export const GUEST_NAME_RULE =
  'a guest name has 1 to 64 characters out of A-Z a-z 0-9 . _ - and does not start with . or -';

export function isGuestName(name: string): boolean {
  return GUEST_NAME.test(name);
}
