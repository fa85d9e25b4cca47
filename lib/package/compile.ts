import fs from 'node:fs';
import path from 'node:path';

/*
 * Has Node compile and keep what the daemons and their workers load: they start sooner and take less
 * memory, and in their sandbox they could not keep it themselves. Node is started with the options of
 * the launchers that count for V8: what other options have compiled is not taken.
 */
const root = path.join(import.meta.dirname, '../..');
// All of the agents: who starts in main.ts finds little of what start.ts alone has had compiled.
for (const module of fs.globSync(['agent-*/**/*.ts', 'lib/**/*-{task,lane}.ts'], { cwd: root }))
  await import(path.join(root, module));
// It refuses to run here, where it is no worker, when it has been compiled.
await import('../crew/worker.ts').catch(() => {});
