import { asGodwitError } from '../errors.ts';
import { act } from './actions.ts';
import { callOf, Failure, OCF } from './call.ts';
import { metaData } from './meta-data.ts';

/**
 * Does what Pacemaker wants, as it is told in the environment, and returns OCF's exit code. Pacemaker shows
 * an operator what stands behind `ocf-exit-reason`.
 */
export async function answerPacemaker(action: string, env: NodeJS.ProcessEnv): Promise<number> {
  if (action === 'meta-data') {
    process.stdout.write(metaData());
    return OCF.success;
  }
  try {
    return await act(action, callOf(env));
  } catch (thrown) {
    const isExpected = thrown instanceof Failure;
    const message = isExpected ? thrown.message : asGodwitError(thrown).message;
    process.stderr.write(`ocf-exit-reason:${message.replace(/\p{Cc}/gu, ' ')}\n`);
    return isExpected ? thrown.code : OCF.failed;
  }
}
