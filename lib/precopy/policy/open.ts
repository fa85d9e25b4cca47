import { GodwitError } from '../../errors.ts';
import type { PolicyName } from '../limits.ts';
import type { OpenPolicy } from '../loop.ts';
import type { Policy } from '../stats.ts';
import { contractPolicy } from './contract.ts';
import { openCustomPolicy } from './custom.ts';
import { xenPolicy } from './xen.ts';

/**
 * The policy of that name.
 *
 * @param module absolute path, for the custom policy only
 * @throws GodwitError bad-option when a module is missing, unusable or not wanted
 */
export async function openPolicy(name: PolicyName, module?: string): Promise<OpenPolicy> {
  if (name === 'custom') {
    if (module !== undefined) return openCustomPolicy(module);
    throw new GodwitError('bad-option', 'the custom policy needs --policy-module FILE.ts');
  }
  if (module !== undefined) {
    throw new GodwitError('bad-option', `--policy-module has no meaning for the ${name} policy`);
  }
  return builtIn(name === 'xen' ? xenPolicy : contractPolicy);
}

function builtIn(policy: Policy): OpenPolicy {
  return {
    consult: async (stats, limits) => ({ verdict: policy(stats, limits) }),
    close: async () => {},
  };
}
