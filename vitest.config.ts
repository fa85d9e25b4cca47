import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Each file gets a process: tests start worker threads and daemons, and a crash must name its file.
    pool: 'forks',
    // Two cores carry two agents, their workers and guests; more files at once only slow each other down.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
