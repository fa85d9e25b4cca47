import { accessSync, constants, statSync } from 'node:fs';

/** What keeps a program from being started, as it follows its path; undefined when nothing is seen. */
export function whyNotStarted(program: string): string | undefined {
  try {
    if (!statSync(program).isFile()) return 'is not a file';
    accessSync(program, constants.X_OK);
    return undefined;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === 'ENOENT' ? 'does not exist' : `cannot be executed: ${code}`;
  }
}
