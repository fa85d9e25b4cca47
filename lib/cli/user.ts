import os from 'node:os';
import { MAX_BY } from '../api/request.ts';

/** Who gives this command, as a log is to have it: the local user, and who that was before sudo. */
export function localUser(): string {
  const { SUDO_USER } = process.env;
  const name = SUDO_USER ? `${SUDO_USER} (as ${nameOfUser()})` : nameOfUser();
  return name.replace(/[^\p{L}\p{N}\p{P}\p{S} ]/gu, '?').slice(0, MAX_BY);
}

function nameOfUser(): string {
  try {
    return os.userInfo().username;
  } catch {
    return `user ${process.getuid?.() ?? 'unknown'}`; // without an entry in passwd
  }
}
