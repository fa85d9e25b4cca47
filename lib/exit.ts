/** Exit codes of every command, the same for both agents. */
export const EXIT = {
  completed: 0,
  failed: 1,
  usage: 2,
  'aborted-by-policy': 3,
  cancelled: 4,
  'needs-resolve': 5,
  'no-daemon': 6,
  internal: 7,
  'not-known': 8,
} as const;
