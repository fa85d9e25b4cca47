import path from 'node:path';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Each file gets a process: tests start worker threads and daemons, and a crash must name its file.
    pool: 'forks',
    // Agents and guests mostly wait for a limit or for each other: three files at once keep two cores busy.
    maxWorkers: 3,
    // Each of hundreds of daemons and VMMs would compile the same files again: a third of their time to start.
    env: { NODE_COMPILE_CACHE: path.resolve('node_modules/.cache/compiled') },
    tags: [{ name: 'long', description: 'further cases, of npm run test:long' }],
    // For what hangs: a busy machine takes minutes for what takes seconds.
    testTimeout: 240_000,
    hookTimeout: 240_000,
    // What is looked at again and again has time: only a broken product uses it up.
    expect: { poll: { timeout: 100_000 } },
  },
});
