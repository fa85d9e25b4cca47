import type { Moment } from '../guest.ts';
import { requireStartable, runHook } from '../hooks.ts';
import type { HookContext } from '../hypervisor.ts';
import { hasDefinition, loadDefinition } from './definition.ts';

interface Places {
  readonly definitions: string;
  readonly ramDir: string;
}

/**
 * Runs what the definition of a QEMU guest wants done at that moment; without a definition that is
 * nothing. Not to be asked about a guest of another hypervisor, which may have the same name.
 * @throws GodwitError as `loadDefinition` and `runHook`
 */
export async function runHookOf(
  { definitions, ramDir }: Places,
  moment: Moment,
  context: HookContext,
): Promise<void> {
  if (!hasDefinition(definitions, context.guest)) return;
  const hook = loadDefinition(definitions, context.guest, [ramDir]).hooks[moment];
  if (hook) await runHook(moment, hook, context);
}

/**
 * Makes sure, without running any, that the hooks of a guest's definition could be started.
 * @returns the names of those there are
 * @throws GodwitError as `loadDefinition` and `requireStartable`
 */
export function requireHooks({ definitions, ramDir }: Places, guest: string): readonly Moment[] {
  if (!hasDefinition(definitions, guest)) return [];
  const hooks = Object.entries(loadDefinition(definitions, guest, [ramDir]).hooks);
  for (const [name, hook] of hooks) requireStartable(name as Moment, hook);
  return hooks.map(([name]) => name as Moment);
}
